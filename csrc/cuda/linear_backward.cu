// The gradients of a matrix product, equation (linear-backward): one block owns a tile of the matrix, or 32 columns of
// the bias, and sums over all rows.  Every sum is computed by one block: no atomics, and deterministic results.
//
// The gradient of x is dy times the transposed matrix, which linear.cu and linear_2.cu compute: they take its strides.
#include "column_sums.cuh"
#include "tile.cuh"

// dy (N, O), x (N, I)  ->  out_w (I, O)
extern "C" __global__ __launch_bounds__(THREADS)
void linear_backward_w(float *out_w, const float *dy, const float *x, int N, int I, int O) {
    int i = blockIdx.y * TILE, o = blockIdx.x * TILE;
    float tile[4][4] = {};
    auto x_at = [&](int r, int n) { return i + r < I ? x[(size_t) n * I + i + r] : 0.0f; };
    auto dy_at = [&](int n, int c) { return o + c < O ? dy[(size_t) n * O + o + c] : 0.0f; };
    tile_matmul<false>(tile, N, false, x_at, dy_at);
    for_each_output(tile, [&](int r, int c, float y) {
        if (i + r < I && o + c < O) out_w[(size_t) (i + r) * O + o + c] = y;
    });
}

// dy (N, O)  ->  out_bias (O)
extern "C" __global__ void linear_backward_bias(float *out_bias, const float *dy, int N, int O) {
    int o = lane_column();
    float sum = sum_over_rows(N, [&](int n) { return o < O ? dy[(size_t) n * O + o] : 0.0f; });
    if (o < O && warp() == 0) out_bias[o] = sum;
}
