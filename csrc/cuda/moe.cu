// Mixture of experts, equation (experts): rows sorted by expert, then one launch for the products of all experts.
//
// A row is a token's choice of one expert; N tokens that choose C have M = N C.  experts_open and experts_close find out
// from the sorted rows which expert a tile of 64 rows belongs to.  What a token's experts said is added up in the order of
// its choices, by one thread: no atomics, and the same bits every time.
#include "quantized_matvec.cuh"
#include "matvec.cuh"
#include "tile.cuh"
#include "warp.cuh"
#include "weight.cuh"

// A counting sort; one warp owns one expert, and keeps its rows in order.
//
// expert (M)  ->  out_first (E + 1): where each expert's rows begin; out_order (M): which row came to stand at a place;
// out_place (M): at which place a row came to stand
extern "C" __global__ void experts_sort(int *out_first, int *out_order, int *out_place, const long long *expert,
                                        int M, int E) {
    int e = blockIdx.x, lane = threadIdx.x, at = 0;
    for (int i = lane; i < M; i += 32) at += expert[i] < e;
    for (int other = 16; other > 0; other /= 2) at += __shfl_xor_sync(0xffffffff, at, other);
    if (lane == 0) out_first[e] = at;
    if (lane == 0 && e == E - 1) out_first[E] = M;
    for (int i = lane; i < (M + 31) / 32 * 32; i += 32) {
        bool mine = i < M && expert[i] == e;
        unsigned all = __ballot_sync(0xffffffff, mine), before = all & (1u << lane) - 1;
        if (mine) out_order[at + __popc(before)] = i, out_place[i] = at + __popc(before);
        at += __popc(all);
    }
}

// Some sorted rows of one expert; none where a block has nothing to do.
struct Share { int expert, from, count; };

__device__ Share share(int tile, const int *first, int E) {
    for (int e = 0; e < E; e++) {
        int rows = first[e + 1] - first[e], tiles = (rows + TILE - 1) / TILE;
        if (tile < tiles) return {e, first[e] + tile * TILE, min(TILE, rows - tile * TILE)};
        tile -= tiles;
    }
    return {0, 0, 0};
}

// x (N, I), gate (M), w_gate and w_up of this share's expert  ->  out (M, O) in sorted order: swiglu of both products
template <class Weight>
__device__ void open(float *out, const float *x, const float *gate, const int *order, Share mine, Weight w_gate, Weight w_up,
                     int C, int I, int O) {
    __shared__ int token[TILE];
    __shared__ float scale[TILE];
    if (threadIdx.x < TILE) {
        int row = order[mine.from + min((int) threadIdx.x, mine.count - 1)];
        token[threadIdx.x] = row / C, scale[threadIdx.x] = gate[row];
    }
    __syncthreads();
    int o = blockIdx.x * TILE;
    float sum[2][4][4] = {};
    #pragma unroll
    for (int n = 0; n < 2; n++) {
        Weight w = n ? w_up : w_gate;
        multiply(sum[n], I, w.along_inputs(),
                 [&](int r, int i) { return r < mine.count ? x[(size_t) token[r] * I + i] * scale[r] : 0.0f; },
                 [&](int i, int c) { return o + c < O ? w.at(i, o + c) : 0.0f; });
    }
    #pragma unroll
    for (int r = 0; r < 4; r++)
        #pragma unroll
        for (int c = 0; c < 4; c++) {
            int row = threadIdx.x / 16 * 4 + r, column = o + threadIdx.x % 16 * 4 + c;
            float y = sum[0][r][c] / (1.0f + expf(-sum[0][r][c])) * sum[1][r][c];
            if (row < mine.count && column < O) out[(size_t) (mine.from + row) * O + column] = y;
        }
}

// x (M, I) in sorted order, w of this share's expert  ->  out (M, O)
template <class Weight>
__device__ void close(float *out, const float *x, Share mine, Weight w, int I, int O) {
    int o = blockIdx.x * TILE;
    float sum[4][4] = {};
    multiply(sum, I, w.along_inputs(), [&](int r, int i) { return r < mine.count ? x[(size_t) (mine.from + r) * I + i] : 0.0f; },
             [&](int i, int c) { return o + c < O ? w.at(i, o + c) : 0.0f; });
    #pragma unroll
    for (int r = 0; r < 4; r++)
        #pragma unroll
        for (int c = 0; c < 4; c++) {
            int row = threadIdx.x / 16 * 4 + r, column = o + threadIdx.x % 16 * 4 + c;
            if (row < mine.count && column < O) out[(size_t) (mine.from + row) * O + column] = sum[r][c];
        }
}

// x (N, D), gate (M), w_gate and w_up (E, D, F)  ->  out (M, F);  x (M, F), w_down (E, F, D)  ->  out (M, D)
// in and across: from one input and one output of an expert to the next, as linear_2.cu has them.
//
// experts_rows, for few rows: row m has the matrix of its own expert and reads x (M / C, I) at m / C.
#define OF_PLAIN(NAME, Number) \
extern "C" __global__ __launch_bounds__(THREADS) \
void experts_open##NAME(float *out, const float *x, const float *gate, const int *first, const int *order, const Number *w_gate, \
                        const Number *w_up, int C, int D, int E, int F, long long in, long long across) { \
    Share mine = share(blockIdx.y, first, E); \
    long long at = (long long) mine.expert * D * F; \
    if (mine.count) open(out, x, gate, order, mine, Plain<Number> {w_gate + at, in, across}, Plain<Number> {w_up + at, in, across}, C, D, F); \
} \
extern "C" __global__ __launch_bounds__(THREADS) \
void experts_close##NAME(float *out, const float *x, const int *first, const Number *w_down, int D, int E, int F, \
                         long long in, long long across) { \
    Share mine = share(blockIdx.y, first, E); \
    if (mine.count) close(out, x, mine, Plain<Number> {w_down + (long long) mine.expert * F * D, in, across}, F, D); \
} \
extern "C" __global__ __launch_bounds__(ROW_THREADS) \
void experts_rows##NAME(float *out, const float *x, const long long *expert, const float *gate, const Number *w, \
                        int C, int I, int O, long long in, long long across) { \
    int row = blockIdx.y; \
    few_rows(out + (size_t) row * O, x + (size_t) (row / C) * I, w + expert[row] * I * O, nullptr, gate ? gate[row] : 1.0f, 1, I, O, in, across); \
}
OF_PLAIN(, float)
OF_PLAIN(_bf16, bf16)

// The same with weights in few bits.
#define OF_BITS(BITS, NAME, Scale) \
__device__ Few<BITS, Scale> expert_##NAME(const unsigned char *values, const Scale *scales, long long e, int I, int O, int group) { \
    return {values + e * I * O * BITS / 8, scales + e * (I / group) * O, group, I}; \
} \
extern "C" __global__ __launch_bounds__(THREADS) \
void experts_open_##NAME(float *out, const float *x, const float *gate, const int *first, const int *order, \
                         const unsigned char *gate_values, const Scale *gate_scales, const unsigned char *up_values, \
                         const Scale *up_scales, int C, int D, int E, int F, int group) { \
    Share mine = share(blockIdx.y, first, E); \
    if (mine.count) open(out, x, gate, order, mine, expert_##NAME(gate_values, gate_scales, mine.expert, D, F, group), \
                         expert_##NAME(up_values, up_scales, mine.expert, D, F, group), C, D, F); \
} \
extern "C" __global__ __launch_bounds__(THREADS) \
void experts_close_##NAME(float *out, const float *x, const int *first, const unsigned char *values, const Scale *scales, \
                          int D, int E, int F, int group) { \
    Share mine = share(blockIdx.y, first, E); \
    if (mine.count) close(out, x, mine, expert_##NAME(values, scales, mine.expert, F, D, group), F, D); \
} \
extern "C" __global__ __launch_bounds__(BIT_THREADS) \
void experts_rows_##NAME(float *out, const float *x, const long long *expert, const float *gate, const unsigned char *values, \
                         const Scale *scales, int C, int I, int O, int group) { \
    int row = blockIdx.y; \
    Few<BITS, Scale> w = expert_##NAME(values, scales, expert[row], I, O, group); \
    columns<BITS, 1>(out + (size_t) row * O, x + (size_t) (row / C) * I, w.values, w.scales, nullptr, gate ? gate[row] : 1.0f, 1, I, O, group); \
}
OF_BITS(8, int8, float)
OF_BITS(8, int8_bf16, bf16)
OF_BITS(4, int4, float)
OF_BITS(4, int4_bf16, bf16)

// What a token's experts said: y (M, D) at `place` (M), or in the tokens' own order where that is null  ->  out (N, D)
extern "C" __global__ void experts_join(float *out, const float *y, const int *place, int N, int C, int D) {
    int d = blockIdx.y * blockDim.x + threadIdx.x, n = blockIdx.x;
    if (d >= D) return;
    float sum = 0.0f;
    for (int c = n * C; c < (n + 1) * C; c++) sum += y[(size_t) (place ? place[c] : c) * D + d];
    out[(size_t) n * D + d] = sum;
}

// The gradient, equation (experts-backward): products with each row's own expert's matrix, and sums over an expert's rows.
// A block owns a tile of what it adds up, as before: no atomics.

// M rows in sorted order: they lie so, or where `order` is not null they are their tokens', times their gate if there is one.
struct Sorted {
    const float *x, *gate;
    const int *order;
    int C, I;                                       // choices of a token; numbers of a row

    __device__ float at(int m, int i) const {
        int row = order ? order[m] : m;
        return x[(size_t) (order ? row / C : m) * I + i] * (gate ? gate[row] : 1.0f);
    }
};

// x (M, I) or (N, I), w (E, I, O)  ->  out (M, O) in sorted order
#define PRODUCT(NAME, Number) \
extern "C" __global__ __launch_bounds__(THREADS) \
void experts_product##NAME(float *out, const float *x, const float *gate, const int *first, const int *order, const Number *w, \
                           int C, int E, int I, int O, long long in, long long across) { \
    Share mine = share(blockIdx.y, first, E); \
    Sorted rows = {x, gate, order, C, I}; \
    Plain<Number> own = {w + (long long) mine.expert * I * O, in, across}; \
    int o = blockIdx.x * TILE; \
    float sum[4][4] = {}; \
    if (!mine.count) return; \
    multiply(sum, I, own.along_inputs(), [&](int r, int i) { return r < mine.count ? rows.at(mine.from + r, i) : 0.0f; }, \
             [&](int i, int c) { return o + c < O ? own.at(i, o + c) : 0.0f; }); \
    each(sum, [&](int r, int c, float y) { \
        if (r < mine.count && o + c < O) out[(size_t) (mine.from + r) * O + o + c] = y; \
    }); \
}
PRODUCT(, float)
PRODUCT(_bf16, bf16)

// dy (M, O) or (N, O), x (M, I) or (N, I)  ->  out_w (E, I, O), zeros for an expert that nobody chose
extern "C" __global__ __launch_bounds__(THREADS)
void experts_backward_w(float *out_w, const float *dy, const int *dy_order, const float *x, const float *gate,
                        const int *x_order, const int *first, int C, int E, int I, int O) {
    int e = blockIdx.z, i = blockIdx.y * TILE, o = blockIdx.x * TILE, from = first[e];
    Sorted of_x = {x, gate, x_order, C, I}, of_dy = {dy, nullptr, dy_order, C, O};
    float sum[4][4] = {};
    multiply<false>(sum, first[e + 1] - from, false, [&](int r, int m) { return i + r < I ? of_x.at(from + m, i + r) : 0.0f; },
                    [&](int m, int c) { return o + c < O ? of_dy.at(from + m, o + c) : 0.0f; });
    each(sum, [&](int r, int c, float y) { if (i + r < I && o + c < O) out_w[((size_t) e * I + i + r) * O + o + c] = y; });
}

// by_gate and by_up (M, D): what comes back through both matrices; x (N, D), gate (M), place (M)
// ->  out_x (N, D), out_gate (M).  One block owns a token.
extern "C" __global__ void experts_backward_join(float *out_x, float *out_gate, const float *by_gate, const float *by_up,
                                                 const float *x, const float *gate, const int *place, int N, int C, int D) {
    size_t n = blockIdx.x;
    for (size_t c = n * C; c < (n + 1) * C; c++) {
        float sum = 0.0f;
        for (int d = threadIdx.x; d < D; d += blockDim.x) {
            size_t at = (size_t) place[c] * D + d;
            sum += (by_gate[at] + by_up[at]) * x[n * D + d];
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0) out_gate[c] = sum;
    }
    for (int d = threadIdx.x; d < D; d += blockDim.x) {
        float sum = 0.0f;
        for (size_t c = n * C; c < (n + 1) * C; c++) {
            size_t at = (size_t) place[c] * D + d;
            sum += (by_gate[at] + by_up[at]) * gate[c];
        }
        out_x[n * D + d] = sum;
    }
}
