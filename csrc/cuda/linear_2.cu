// A matrix product in tiles, equation (linear): one block owns 64 rows by 64 columns of the output (tile.cuh).
#include "tile.cuh"
#include "weight.cuh"

template <class Weight>
__device__ void linear(float *out, const float *x, Weight w, const float *bias, int N, int I, int O) {
    int n = blockIdx.y * TILE, o = blockIdx.x * TILE;
    float sum[4][4] = {};
    multiply(sum, I, w.along_inputs(), [&](int r, int i) { return n + r < N ? x[(size_t) (n + r) * I + i] : 0.0f; },
             [&](int i, int c) { return o + c < O ? w.at(i, o + c) : 0.0f; });
    #pragma unroll
    for (int r = 0; r < 4; r++)
        #pragma unroll
        for (int c = 0; c < 4; c++) {
            int row = n + threadIdx.x / 16 * 4 + r, column = o + threadIdx.x % 16 * 4 + c;
            if (row < N && column < O) out[(size_t) row * O + column] = sum[r][c] + (bias ? bias[column] : 0.0f);
        }
}

// x (N, I), w (I, O) with `in` and `across` from one input and one output to the next, bias (O) or null  ->  out (N, O)
extern "C" __global__ __launch_bounds__(THREADS)
void linear_2(float *out, const float *x, const float *w, const float *bias, int N, int I, int O,
              long long in, long long across) {
    linear(out, x, Plain<float> {w, in, across}, bias, N, I, O);
}
extern "C" __global__ __launch_bounds__(THREADS)
void linear_2_bf16(float *out, const float *x, const bf16 *w, const float *bias, int N, int I, int O,
                   long long in, long long across) {
    linear(out, x, Plain<bf16> {w, in, across}, bias, N, I, O);
}

// w in few bits: each number is widened as it enters shared memory, and serves 64 rows.
#define BITS_AND_SCALE(BITS, NAME, Scale) \
extern "C" __global__ __launch_bounds__(THREADS) \
void linear_2_int##NAME(float *out, const float *x, const unsigned char *values, const Scale *scales, const float *bias, \
                        int N, int I, int O, int group) { \
    linear(out, x, Few<BITS, Scale> {values, scales, group, I}, bias, N, I, O); \
}
BITS_AND_SCALE(8, 8, float)
BITS_AND_SCALE(8, 8_bf16, bf16)
BITS_AND_SCALE(4, 4, float)
BITS_AND_SCALE(4, 4_bf16, bf16)
