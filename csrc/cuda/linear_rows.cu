// A matrix product of few rows, equation (linear): every weight is read once, so memory sets the pace (decoding).
//
// Up to four rows of x at a time.  Neighbouring lanes read neighbouring weights, whichever way the matrix lies: where the
// weights of one output lie side by side, a warp owns an output and its lanes take turns along the inputs; where those of
// one input do, a lane owns an output and the warps of a block take turns along the inputs.
#include "bf16.cuh"

enum { THREADS = 256, WARPS = THREADS / 32, ROWS = 4, AT_ONCE = 16 };

template <class Number>
__device__ void along_inputs(float *out, const float *x, const Number *w, const float *bias, int rows, int I, int O, long long across) {
    int o = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (o >= O) return;
    float sum[ROWS] = {};
    #pragma unroll 4
    for (int i = lane; i < I; i += 32) {
        float weight = widened(w[o * across + i]);
        #pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (r < rows) sum[r] += weight * x[(size_t) r * I + i];
    }
    #pragma unroll
    for (int r = 0; r < ROWS; r++) {
        for (int other = 16; other > 0; other /= 2) sum[r] += __shfl_xor_sync(0xffffffff, sum[r], other);
        if (r < rows && lane == 0) out[(size_t) r * O + o] = sum[r] + (bias ? bias[o] : 0.0f);
    }
}

template <class Number>
__device__ void along_outputs(float *out, const float *x, const Number *w, const float *bias, int rows, int I, int O, long long in) {
    __shared__ float part[WARPS][ROWS][32];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, o = blockIdx.x * 32 + lane;
    float sum[ROWS] = {};
    for (int start = warp * AT_ONCE; o < O && start < I; start += WARPS * AT_ONCE) {
        float some[ROWS] = {};                      // one sum for all inputs would drift
        #pragma unroll
        for (int i = start; i < start + AT_ONCE; i++) {
            float weight = i < I ? widened(w[i * in + o]) : 0.0f;
            #pragma unroll
            for (int r = 0; r < ROWS; r++)
                if (r < rows && i < I) some[r] += weight * x[(size_t) r * I + i];
        }
        #pragma unroll
        for (int r = 0; r < ROWS; r++) sum[r] += some[r];
    }
    #pragma unroll
    for (int r = 0; r < ROWS; r++) part[warp][r][lane] = sum[r];
    __syncthreads();
    if (warp >= rows || o >= O) return;             // warp r joins what all warps have of row r
    float total = bias ? bias[o] : 0.0f;
    for (int other = 0; other < WARPS; other++) total += part[other][warp][lane];
    out[(size_t) warp * O + o] = total;
}

template <class Number>
__device__ void product(float *out, const float *x, const Number *w, const float *bias, int N, int I, int O, long long in, long long across) {
    int n = blockIdx.y * ROWS, rows = min(ROWS, N - n);
    out += (size_t) n * O, x += (size_t) n * I;
    if (in == 1) along_inputs(out, x, w, bias, rows, I, O, across);
    else along_outputs(out, x, w, bias, rows, I, O, in);
}

// x (N, I), w (I, O) with `in` and `across` from one input and one output to the next, bias (O) or null  ->  out (N, O)
extern "C" __global__ __launch_bounds__(THREADS)
void linear_rows(float *out, const float *x, const float *w, const float *bias, int N, int I, int O, long long in, long long across) {
    product(out, x, w, bias, N, I, O, in, across);
}
extern "C" __global__ __launch_bounds__(THREADS)
void linear_rows_bf16(float *out, const float *x, const bf16 *w, const float *bias, int N, int I, int O, long long in, long long across) {
    product(out, x, w, bias, N, I, O, in, across);
}
