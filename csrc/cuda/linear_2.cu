// A matrix product in tiles, equation (linear): one block owns 64 rows by 64 columns of the output (tile.cuh).
#include "tile.cuh"
#include "weight.cuh"

template <class Weight>
__device__ void linear(float *out, const float *x, Weight w, const float *bias, int N, int I, int O) {
    int n = blockIdx.y * TILE, o = blockIdx.x * TILE;
    float tile[4][4] = {};
    auto x_at = [&](int r, int i) { return n + r < N ? x[(size_t) (n + r) * I + i] : 0.0f; };
    auto w_at = [&](int i, int c) { return o + c < O ? w.at(i, o + c) : 0.0f; };
    tile_matmul(tile, I, w.are_inputs_contiguous(), x_at, w_at);
    for_each_output(tile, [&](int r, int c, float y) {
        int row = n + r, column = o + c;
        if (row < N && column < O) out[(size_t) row * O + column] = y + (bias ? bias[column] : 0.0f);
    });
}

// x (N, I), w (I, O) with the strides to its next input and output, bias (O) or null  ->  out (N, O)
extern "C" __global__ __launch_bounds__(THREADS)
void linear_2(float *out, const float *x, const float *w, const float *bias, int N, int I, int O, long long in_stride,
              long long out_stride) {
    linear(out, x, Plain<float> {w, in_stride, out_stride}, bias, N, I, O);
}
extern "C" __global__ __launch_bounds__(THREADS)
void linear_2_bf16(float *out, const float *x, const bf16 *w, const float *bias, int N, int I, int O,
                   long long in_stride, long long out_stride) {
    linear(out, x, Plain<bf16> {w, in_stride, out_stride}, bias, N, I, O);
}

// w of 8 or 4 bits: each weight is converted to float on its way into shared memory, and used for 64 rows.
#define LINEAR_2_QUANTIZED(SUFFIX, BITS, Scale) \
    extern "C" __global__ __launch_bounds__(THREADS) \
    void linear_2_##SUFFIX(float *out, const float *x, const unsigned char *values, const Scale *scales, \
                           const float *bias, int N, int I, int O, int group) { \
        linear(out, x, Quantized<BITS, Scale> {values, scales, group, I}, bias, N, I, O); \
    }
LINEAR_2_QUANTIZED(int8, 8, float)
LINEAR_2_QUANTIZED(int8_bf16, 8, bf16)
LINEAR_2_QUANTIZED(int4, 4, float)
LINEAR_2_QUANTIZED(int4_bf16, 4, bf16)
