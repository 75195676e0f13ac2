// Mixture of experts, equation (experts): rows sorted by expert, then one launch for the products of all experts.
//
// A row is a token's choice of one expert; N tokens with C choices each have M = N C rows.  Kernels that work on sorted
// rows look up the expert of each tile of 64 rows.  One thread adds up the outputs of a token's experts, in the order
// of its choices: no atomics, and deterministic results.  The plain form:
//
//     for (row = 0; row < M; row++) {
//         n = row / C, e = expert[row], x_row = x[n] * gate[row];
//         hidden = swiglu(x_row @ w_gate[e], x_row @ w_up[e]);
//         out[n] += hidden @ w_down[e];
//     }
#include "quantized_matvec.cuh"
#include "tile.cuh"
#include "warp.cuh"

// A counting sort; one warp owns one expert, and keeps its rows in order.
//
// expert (M)  ->  out_first (E + 1): the start of each expert's rows; out_order (M): the row at each sorted position;
// out_position (M): the sorted position of each row
extern "C" __global__ void experts_sort(int *out_first, int *out_order, int *out_position, const long long *expert,
                                        int M, int E) {
    int e = blockIdx.x, lane = threadIdx.x, begin = 0;
    for (int i = lane; i < M; i += 32) begin += expert[i] < e;
    for (int bit = 16; bit > 0; bit /= 2) begin += __shfl_xor_sync(0xffffffff, begin, bit);
    if (lane == 0) out_first[e] = begin;
    if (lane == 0 && e == E - 1) out_first[E] = M;
    for (int i = lane; i < (M + 31) / 32 * 32; i += 32) {
        bool chosen = i < M && expert[i] == e;
        unsigned lanes = __ballot_sync(0xffffffff, chosen), lower_lanes = lanes & (1u << lane) - 1;
        int position = begin + __popc(lower_lanes);
        if (chosen) out_order[position] = i, out_position[i] = position;
        begin += __popc(lanes);
    }
}

// Up to TILE sorted rows of one expert; count is 0 if a block has no work.
struct ExpertTile {
    int expert, begin, count;
};

__device__ ExpertTile find_expert_tile(int tile, const int *first, int E) {
    for (int e = 0; e < E; e++) {
        int rows = first[e + 1] - first[e], tiles = (rows + TILE - 1) / TILE;
        if (tile < tiles) return {e, first[e] + tile * TILE, min(TILE, rows - tile * TILE)};
        tile -= tiles;
    }
    return {0, 0, 0};
}

// M rows of I elements in sorted order.  If `order` is null, x (M, I) is sorted; otherwise x (N, I) has the tokens'
// rows, and order (M) is the choice of each sorted row.  gate (M), if not null, scales the choices.
struct SortedRows {
    const float *x, *gate;
    const int *order;
    int C, I;  // choices of a token; elements of a row

    __device__ float at(int m, int i) const {
        int row = order ? order[m] : m;
        return x[(size_t) (order ? row / C : m) * I + i] * (gate ? gate[row] : 1.0f);
    }
};

// The matrix (I, O) of expert e, of a stack (E, I, O).
template <class Number> __device__ Plain<Number> expert_matrix(Plain<Number> w, long long e, int I, int O) {
    return {w.values + e * I * O, w.in_stride, w.out_stride};
}
template <int BITS, class Scale>
__device__ Quantized<BITS, Scale> expert_matrix(Quantized<BITS, Scale> w, long long e, int I, int O) {
    return {w.values + e * I * O * BITS / 8, w.scales + e * (I / w.group) * O, w.group, I};
}

// rows (M, I), w_gate and w_up (E, I, O)  ->  out (M, O) in sorted order: swiglu of both products
template <class Weight>
__device__ void gate_up(float *out, SortedRows rows, const int *first, Weight w_gate, Weight w_up, int E, int O) {
    ExpertTile tile = find_expert_tile(blockIdx.y, first, E);
    if (!tile.count) return;
    // token and gate of each of the tile's rows: the products read them TILE times
    __shared__ int token[TILE];
    __shared__ float scale[TILE];
    if (threadIdx.x < TILE) {
        int row = rows.order[tile.begin + min((int) threadIdx.x, tile.count - 1)];
        token[threadIdx.x] = row / rows.C, scale[threadIdx.x] = rows.gate[row];
    }
    __syncthreads();
    int o = blockIdx.x * TILE, I = rows.I;
    w_gate = expert_matrix(w_gate, tile.expert, I, O), w_up = expert_matrix(w_up, tile.expert, I, O);
    auto x_at = [&](int r, int i) { return r < tile.count ? rows.x[(size_t) token[r] * I + i] * scale[r] : 0.0f; };
    float sum[2][4][4] = {};  // (64, 64) = rows w_gate, rows w_up
    #pragma unroll
    for (int n = 0; n < 2; n++) {
        Weight w = n ? w_up : w_gate;
        auto w_at = [&](int i, int c) { return o + c < O ? w.at(i, o + c) : 0.0f; };
        tile_matmul(sum[n], I, w.are_inputs_contiguous(), x_at, w_at);
    }
    #pragma unroll
    for (int r = 0; r < 4; r++)
        #pragma unroll
        for (int c = 0; c < 4; c++) sum[0][r][c] = sum[0][r][c] / (1.0f + expf(-sum[0][r][c])) * sum[1][r][c];
    for_each_output(sum[0], [&](int r, int c, float y) {
        int column = o + c;
        if (r < tile.count && column < O) out[(size_t) (tile.begin + r) * O + column] = y;
    });
}

// rows (M, I), w (E, I, O)  ->  out (M, O) in sorted order
template <class Weight>
__device__ void sorted_matmul(float *out, SortedRows rows, const int *first, Weight w, int E, int O) {
    ExpertTile tile = find_expert_tile(blockIdx.y, first, E);
    if (!tile.count) return;
    int o = blockIdx.x * TILE;
    w = expert_matrix(w, tile.expert, rows.I, O);
    float sum[4][4] = {};
    auto x_at = [&](int r, int i) { return r < tile.count ? rows.at(tile.begin + r, i) : 0.0f; };
    auto w_at = [&](int i, int c) { return o + c < O ? w.at(i, o + c) : 0.0f; };
    tile_matmul(sum, rows.I, w.are_inputs_contiguous(), x_at, w_at);
    for_each_output(sum, [&](int r, int c, float y) {
        int column = o + c;
        if (r < tile.count && column < O) out[(size_t) (tile.begin + r) * O + column] = y;
    });
}

// One row: x (I), w (I, O)  ->  out (O)
template <class Number>
__device__ void row_matvec(float *out, const float *x, Plain<Number> w, float gate, int I, int O) {
    matvec(out, x, w, nullptr, gate, {1, I, O});
}
template <int BITS, class Scale>
__device__ void row_matvec(float *out, const float *x, Quantized<BITS, Scale> w, float gate, int I, int O) {
    q_matvec_tile<1>(out, x, w, nullptr, gate, {1, I, O});
}

// A few rows, unsorted: row m uses the matrix of its expert and reads row m / C of x (M / C, I); gate (M) or null.
template <class Weight>
__device__ void choice_matvec(float *out, const float *x, const long long *expert, const float *gate, Weight w, int C,
                              int I, int O) {
    int row = blockIdx.y;
    row_matvec(out + (size_t) row * O, x + (size_t) (row / C) * I, expert_matrix(w, expert[row], I, O),
               gate ? gate[row] : 1.0f, I, O);
}

// The kernels.  x (N, D), gate (M), w_gate and w_up (E, D, F)  ->  out (M, F);  x (M, F), w_down (E, F, D)  ->  out
// (M, D).  The strides are those to the next input and output of an expert's matrix.
#define EXPERTS_PLAIN(SUFFIX, Number) \
    extern "C" __global__ __launch_bounds__(THREADS) \
    void experts_gate_up##SUFFIX(float *out, const float *x, const float *gate, const int *first, const int *order, \
                                 const Number *w_gate, const Number *w_up, int C, int D, int E, int F, \
                                 long long in_stride, long long out_stride) { \
        gate_up(out, {x, gate, order, C, D}, first, Plain<Number> {w_gate, in_stride, out_stride}, \
                Plain<Number> {w_up, in_stride, out_stride}, E, F); \
    } \
    extern "C" __global__ __launch_bounds__(THREADS) \
    void experts_down##SUFFIX(float *out, const float *x, const int *first, const Number *w_down, int D, int E, int F, \
                              long long in_stride, long long out_stride) { \
        sorted_matmul(out, {x, nullptr, nullptr, 1, F}, first, Plain<Number> {w_down, in_stride, out_stride}, E, D); \
    } \
    extern "C" __global__ __launch_bounds__(MATVEC_THREADS) \
    void experts_matvec##SUFFIX(float *out, const float *x, const long long *expert, const float *gate, \
                                const Number *w, int C, int I, int O, long long in_stride, long long out_stride) { \
        choice_matvec(out, x, expert, gate, Plain<Number> {w, in_stride, out_stride}, C, I, O); \
    }
EXPERTS_PLAIN(, float)
EXPERTS_PLAIN(_bf16, bf16)

#define EXPERTS_QUANTIZED(SUFFIX, BITS, Scale) \
    extern "C" __global__ __launch_bounds__(THREADS) \
    void experts_gate_up_##SUFFIX(float *out, const float *x, const float *gate, const int *first, const int *order, \
                                  const unsigned char *gate_values, const Scale *gate_scales, \
                                  const unsigned char *up_values, const Scale *up_scales, int C, int D, int E, int F, \
                                  int group) { \
        gate_up(out, {x, gate, order, C, D}, first, Quantized<BITS, Scale> {gate_values, gate_scales, group, D}, \
                Quantized<BITS, Scale> {up_values, up_scales, group, D}, E, F); \
    } \
    extern "C" __global__ __launch_bounds__(THREADS) \
    void experts_down_##SUFFIX(float *out, const float *x, const int *first, const unsigned char *values, \
                               const Scale *scales, int D, int E, int F, int group) { \
        sorted_matmul(out, {x, nullptr, nullptr, 1, F}, first, Quantized<BITS, Scale> {values, scales, group, F}, E, \
                      D); \
    } \
    extern "C" __global__ __launch_bounds__(Q_THREADS) \
    void experts_matvec_##SUFFIX(float *out, const float *x, const long long *expert, const float *gate, \
                                 const unsigned char *values, const Scale *scales, int C, int I, int O, int group) { \
        choice_matvec(out, x, expert, gate, Quantized<BITS, Scale> {values, scales, group, I}, C, I, O); \
    }
EXPERTS_QUANTIZED(int8, 8, float)
EXPERTS_QUANTIZED(int8_bf16, 8, bf16)
EXPERTS_QUANTIZED(int4, 4, float)
EXPERTS_QUANTIZED(int4_bf16, 4, bf16)

// The sum of a token's experts: y (M, D) at `position` (M), or in the tokens' order if that is null  ->  out (N, D)
extern "C" __global__ void experts_combine(float *out, const float *y, const int *position, int N, int C, int D) {
    int d = blockIdx.y * blockDim.x + threadIdx.x, n = blockIdx.x;
    if (d >= D) return;
    float sum = 0.0f;
    for (int c = n * C; c < (n + 1) * C; c++) sum += y[(size_t) (position ? position[c] : c) * D + d];
    out[(size_t) n * D + d] = sum;
}

// The gradient, equation (experts-backward): products with the matrix of each row's expert, and sums over an expert's
// rows.  As above, every sum is computed by one block: no atomics.

// x (M, I) or (N, I), w (E, I, O)  ->  out (M, O) in sorted order
#define EXPERTS_MATMUL(SUFFIX, Number) \
    extern "C" __global__ __launch_bounds__(THREADS) \
    void experts_matmul##SUFFIX(float *out, const float *x, const float *gate, const int *first, const int *order, \
                                const Number *w, int C, int E, int I, int O, long long in_stride, \
                                long long out_stride) { \
        sorted_matmul(out, {x, gate, order, C, I}, first, Plain<Number> {w, in_stride, out_stride}, E, O); \
    }
EXPERTS_MATMUL(, float)
EXPERTS_MATMUL(_bf16, bf16)

// dy (M, O) or (N, O), x (M, I) or (N, I)  ->  out_w (E, I, O), zeros for an expert without rows
extern "C" __global__ __launch_bounds__(THREADS)
void experts_backward_w(float *out_w, const float *dy, const int *dy_order, const float *x, const float *gate,
                        const int *x_order, const int *first, int C, int E, int I, int O) {
    int e = blockIdx.z, i = blockIdx.y * TILE, o = blockIdx.x * TILE, begin = first[e];
    SortedRows x_rows = {x, gate, x_order, C, I}, dy_rows = {dy, nullptr, dy_order, C, O};
    float sum[4][4] = {};
    auto x_at = [&](int r, int m) { return i + r < I ? x_rows.at(begin + m, i + r) : 0.0f; };
    auto dy_at = [&](int m, int c) { return o + c < O ? dy_rows.at(begin + m, o + c) : 0.0f; };
    tile_matmul<false>(sum, first[e + 1] - begin, false, x_at, dy_at);
    for_each_output(sum, [&](int r, int c, float y) {
        if (i + r < I && o + c < O) out_w[((size_t) e * I + i + r) * O + o + c] = y;
    });
}

// dx_gate and dx_up (M, D): the gradients of the sorted rows through both matrices; x (N, D), gate (M), position (M)
// ->  out_x (N, D), out_gate (M).  One block owns a token.
extern "C" __global__ void experts_backward_combine(float *out_x, float *out_gate, const float *dx_gate,
                                                    const float *dx_up, const float *x, const float *gate,
                                                    const int *position, int N, int C, int D) {
    size_t n = blockIdx.x;
    for (size_t c = n * C; c < (n + 1) * C; c++) {
        float sum = 0.0f;
        for (int d = threadIdx.x; d < D; d += blockDim.x) {
            size_t at = (size_t) position[c] * D + d;
            sum += (dx_gate[at] + dx_up[at]) * x[n * D + d];
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0) out_gate[c] = sum;
    }
    for (int d = threadIdx.x; d < D; d += blockDim.x) {
        float sum = 0.0f;
        for (size_t c = n * C; c < (n + 1) * C; c++) {
            size_t at = (size_t) position[c] * D + d;
            sum += (dx_gate[at] + dx_up[at]) * gate[c];
        }
        out_x[n * D + d] = sum;
    }
}
