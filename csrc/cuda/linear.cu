// A matrix product of few rows, equation (linear), four of them at a time (matvec.cuh).
#include "matvec.cuh"

template <class Number>
__device__ void product(float *out, const float *x, const Number *w, const float *bias, int N, int I, int O,
                        long long in, long long across) {
    int n = blockIdx.y * ROWS;
    few_rows(out + (size_t) n * O, x + (size_t) n * I, w, bias, 1.0f, min(ROWS, N - n), I, O, in, across);
}

// x (N, I), w (I, O) with `in` and `across` from one input and one output to the next, bias (O) or null  ->  out (N, O)
extern "C" __global__ __launch_bounds__(ROW_THREADS)
void linear_rows(float *out, const float *x, const float *w, const float *bias, int N, int I, int O,
                 long long in, long long across) {
    product(out, x, w, bias, N, I, O, in, across);
}
extern "C" __global__ __launch_bounds__(ROW_THREADS)
void linear_rows_bf16(float *out, const float *x, const bf16 *w, const float *bias, int N, int I, int O,
                      long long in, long long across) {
    product(out, x, w, bias, N, I, O, in, across);
}
