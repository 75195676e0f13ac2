// A matrix product of a few rows, equation (linear), four of them at a time (matvec.cuh).
#include "matvec.cuh"

template <class Number>
__device__ void matvec_rows(float *out, const float *x, Plain<Number> w, const float *bias, int N, int I, int O) {
    int n = blockIdx.y * ROWS;
    matvec(out + (size_t) n * O, x + (size_t) n * I, w, bias, 1.0f, {min(ROWS, N - n), I, O});
}

// x (N, I), w (I, O) with the strides to its next input and output, bias (O) or null  ->  out (N, O)
extern "C" __global__ __launch_bounds__(MATVEC_THREADS)
void linear_rows(float *out, const float *x, const float *w, const float *bias, int N, int I, int O,
                 long long in_stride, long long out_stride) {
    matvec_rows(out, x, Plain<float> {w, in_stride, out_stride}, bias, N, I, O);
}
extern "C" __global__ __launch_bounds__(MATVEC_THREADS)
void linear_rows_bf16(float *out, const float *x, const bf16 *w, const float *bias, int N, int I, int O,
                      long long in_stride, long long out_stride) {
    matvec_rows(out, x, Plain<bf16> {w, in_stride, out_stride}, bias, N, I, O);
}
