// The gradient of attention, equation (gqa-backward), as in FlashAttention-2.  With q, k, v, dO (here dy) and the
// forward pass's m and l of each row, and sums over keys s:
//
//     scores = q k^T / sqrt(d)    P = exp(scores - m) / l     dP = dO v^T     D = sum_s P dP  (one for each row)
//     dS = P (dP - D)             dq = dS k / sqrt(d)         dv = P^T dO     dk = dS^T q / sqrt(d)
//
// P and dP are recomputed, in two kernels with the sides exchanged.  In the first, a block owns 32 rows of queries and
// streams the keys, 32 at a time, twice: pass 1 computes m, l and D, pass 2 dq.  In the second, a block owns 32 keys
// and streams the rows of queries.  Every sum is computed by one block: no atomics, and deterministic results.
//
// D is computed relative to dP at the row's largest score, dP_at_max: D = dP_at_max + sum_s P (dP - dP_at_max).  If
// that weight is close to 1, the subtraction dP - D would otherwise cancel.
#include <math_constants.h>

#include "attention_tile.cuh"

enum { TILE = STREAMED, TILES_PER_SUM = 16 };  // only a few hundred terms are summed in registers: no drift

// Shared memory: q, dy, k and v (TILE, d), of which a block owns two and streams two; P and dS (TILE, TILE).
struct Tiles {
    float *q, *dy, *k, *v, *P, *dS;
    int pitch;

    __device__ Tiles(float *memory, int pitch)
        : q(memory), dy(q + TILE * pitch), k(dy + TILE * pitch), v(k + TILE * pitch), P(v + TILE * pitch),
          dS(P + TILE * SCORES_PITCH), pitch(pitch) {}
};

__device__ void set_to_zero(float (&x)[2][4]) {
    #pragma unroll
    for (int r = 0; r < 2; r++)
        #pragma unroll
        for (int j = 0; j < 4; j++) x[r][j] = 0.0f;
}

// Adds the sums of this thread's channels to the rows in memory, or writes them if `is_first`, and sets them to zero.
// row(r): pointer to row r of the block, or null.
template <class Row> __device__ void flush_sums(float (&sum)[2][4][4], bool is_first, int d, Row row) {
    #pragma unroll
    for (int r = 0; r < 2; r++) {
        float *to = row(own_row(r));
        #pragma unroll
        for (int p = 0; p < 4; p++)
            #pragma unroll
            for (int e = 0; e < 4; e++) {
                int i = 32 * p + threadIdx.x % 8 * 4 + e;
                if (to && i < d) to[i] = (is_first ? 0.0f : to[i]) + sum[r][p][e];
                sum[r][p][e] = 0.0f;
            }
    }
}

// For the first kernel: the block's rows of queries, and the keys that this thread's two rows see.
struct QuerySide {
    AttentionShape shape;
    QueryRows rows;
    const float *k, *v;
    int key_begin[2], key_end[2];
    float scale;  // 1 / sqrt(d)
};

struct RowStatistics {
    float m[2], l[2], D[2];
};

// scores (2, 4) and dP (2, 4) of the keys from s on, after loading their k and v.  Hidden keys score -infinity.
__device__ void compute_scores_and_dP(float (&scores)[2][4], float (&dP)[2][4], const Tiles &tiles,
                                      const QuerySide &side, int s) {
    const QueryRows &rows = side.rows;
    int d = side.shape.d;
    auto kv_row = [&](const float *a, int r) {
        return s + r < rows.key_end ? a + side.shape.kv_row(rows.b, rows.kv_head, s + r) * d : nullptr;
    };
    __syncthreads();  // previous tiles are no longer in use
    load_tile(tiles.k, TILE, d, tiles.pitch, [&](int r) { return kv_row(side.k, r); });
    load_tile(tiles.v, TILE, d, tiles.pitch, [&](int r) { return kv_row(side.v, r); });
    __syncthreads();  // these are complete
    set_to_zero(scores), set_to_zero(dP);
    add_row_products(scores, tiles.q, tiles.k, d, tiles.pitch);
    add_row_products(dP, tiles.dy, tiles.v, d, tiles.pitch);
    #pragma unroll
    for (int r = 0; r < 2; r++)
        #pragma unroll
        for (int j = 0; j < 4; j++) {
            int key = s + streamed_row(j);
            bool is_visible = side.key_begin[r] <= key && key < side.key_end[r];
            scores[r][j] = is_visible ? scores[r][j] * side.scale : -CUDART_INF_F;
        }
}

// Pass 1: m, l and D of this thread's rows, by the online softmax; D is kept as sum_s exp(scores - m) (dP - dP_at_max)
__device__ RowStatistics compute_row_statistics(const Tiles &tiles, const QuerySide &side) {
    RowStatistics stats = {{-CUDART_INF_F, -CUDART_INF_F}};
    float dP_at_max[2] = {}, scores[2][4], dP[2][4];
    for (int s = side.rows.key_begin; s < side.rows.key_end; s += TILE) {
        compute_scores_and_dP(scores, dP, tiles, side, s);
        #pragma unroll
        for (int r = 0; r < 2; r++) {
            float m_new = stats.m[r];
            #pragma unroll
            for (int j = 0; j < 4; j++) m_new = fmaxf(m_new, scores[r][j]);
            m_new = max_over_8_lanes(m_new);
            float base = m_new == -CUDART_INF_F ? 0.0f : m_new;  // this row has seen no key yet
            float rescale = expf(stats.m[r] - base), dP_at_m_new = -CUDART_INF_F;
            #pragma unroll
            for (int j = 0; j < 4; j++)
                if (scores[r][j] == m_new) dP_at_m_new = fmaxf(dP_at_m_new, dP[r][j]);
            dP_at_m_new = max_over_8_lanes(dP_at_m_new);
            if (m_new == stats.m[r]) dP_at_m_new = dP_at_max[r];
            stats.l[r] *= rescale, stats.D[r] = stats.D[r] * rescale + (dP_at_max[r] - dP_at_m_new) * stats.l[r];
            stats.m[r] = m_new, dP_at_max[r] = dP_at_m_new;
            #pragma unroll
            for (int j = 0; j < 4; j++) {
                float p = expf(scores[r][j] - base);
                stats.l[r] += p, stats.D[r] += p * (dP[r][j] - dP_at_m_new);
            }
        }
    }
    #pragma unroll
    for (int r = 0; r < 2; r++) {
        stats.l[r] = sum_over_8_lanes(stats.l[r]);
        stats.D[r] = dP_at_max[r] + sum_over_8_lanes(stats.D[r]) / stats.l[r];
    }
    return stats;
}

// Pass 2: out_q (TILE, d) = dS k / sqrt(d)
__device__ void compute_query_gradient(float *out_q, const Tiles &tiles, const QuerySide &side,
                                       const RowStatistics &stats) {
    int d = side.shape.d, tile_count = 0;
    float scores[2][4], dP[2][4], dq[2][4][4] = {};
    auto row = [&](int r) { return r < side.rows.count ? out_q + side.rows.at(side.shape, r) * d : nullptr; };
    for (int s = side.rows.key_begin; s < side.rows.key_end; s += TILE) {
        compute_scores_and_dP(scores, dP, tiles, side, s);
        #pragma unroll
        for (int r = 0; r < 2; r++)
            #pragma unroll
            for (int j = 0; j < 4; j++) {
                float p = expf(scores[r][j] - stats.m[r]) / stats.l[r];
                tiles.dS[own_row(r) * SCORES_PITCH + streamed_row(j)] = p * (dP[r][j] - stats.D[r]) * side.scale;
            }
        __syncwarp();  // dS is exchanged only between the lanes of a warp
        add_weighted_rows(dq, tiles.dS, tiles.k, d, tiles.pitch);
        if (++tile_count % TILES_PER_SUM == 0) flush_sums(dq, tile_count == TILES_PER_SUM, d, row);
    }
    flush_sums(dq, tile_count < TILES_PER_SUM, d, row);
}

// dy and q (B, T, H, d), k and v (B, S, K, d) with d up to 128
// ->  out_q (B, T, H, d), and for the other kernel out_stats (B, T, H, 3): m, l and D of each row
extern "C" __global__ __launch_bounds__(THREADS)
void attention_backward_q(float *out_q, float *out_stats, const float *dy, const float *q, const float *k,
                          const float *v, int causal, int chunk, long long kv_start, int B, int T, int S, int H, int K,
                          int d) {
    extern __shared__ __align__(16) float memory[];
    AttentionShape shape = {causal, chunk, kv_start, T, S, H, K, d};
    Tiles tiles(memory, shape.pitch());
    QueryRows rows = own_query_rows<TILE>(shape);
    auto row = [&](const float *a, int r) { return r < rows.count ? a + rows.at(shape, r) * d : nullptr; };
    load_tile(tiles.q, TILE, d, tiles.pitch, [&](int r) { return row(q, r); });
    load_tile(tiles.dy, TILE, d, tiles.pitch, [&](int r) { return row(dy, r); });

    QuerySide side = {shape, rows, k, v, {}, {}, 1.0f / sqrtf((float) d)};
    #pragma unroll
    for (int r = 0; r < 2; r++) {
        int n = rows.clamp_row(own_row(r));
        side.key_begin[r] = shape.first_key(n), side.key_end[r] = shape.end_key(n);
    }
    RowStatistics stats = compute_row_statistics(tiles, side);
    #pragma unroll
    for (int r = 0; r < 2; r++) {
        float *row_stats = out_stats + rows.at(shape, own_row(r)) * 3;
        if (own_row(r) < rows.count && threadIdx.x % 8 == 0)
            row_stats[0] = stats.m[r], row_stats[1] = stats.l[r], row_stats[2] = stats.D[r];
    }
    compute_query_gradient(out_q, tiles, side, stats);
}

// For the second kernel: the rows of queries that see this thread's two keys, G for each query.
struct KeySide {
    AttentionShape shape;
    const float *dy, *q, *stats;
    int b, kv_head, row_begin[2], row_end[2];  // of the keys that this thread owns
    int end;                                   // of the rows that see any of the block's keys
    float scale;                               // 1 / sqrt(d)
};

// P^T and dS^T / sqrt(d) (TILE keys, TILE rows) of the rows from n on, after loading their q and dy
__device__ void compute_P_and_dS(const Tiles &tiles, const KeySide &side, int n) {
    int d = side.shape.d;
    auto at = [&](int r) { return side.shape.query_row(side.b, side.kv_head, n + r); };
    __syncthreads();  // previous tiles are no longer in use
    load_tile(tiles.q, TILE, d, tiles.pitch, [&](int r) { return n + r < side.end ? side.q + at(r) * d : nullptr; });
    load_tile(tiles.dy, TILE, d, tiles.pitch, [&](int r) { return n + r < side.end ? side.dy + at(r) * d : nullptr; });
    __syncthreads();  // these are complete
    float scores[2][4] = {}, dP[2][4] = {};
    add_row_products(scores, tiles.k, tiles.q, d, tiles.pitch);
    add_row_products(dP, tiles.v, tiles.dy, d, tiles.pitch);
    #pragma unroll
    for (int j = 0; j < 4; j++) {
        int row = n + streamed_row(j);
        const float *row_stats = side.stats + at(min(streamed_row(j), side.end - 1 - n)) * 3;
        float m = row_stats[0], l = row_stats[1], D = row_stats[2];
        #pragma unroll
        for (int r = 0; r < 2; r++) {
            bool is_visible = side.row_begin[r] <= row && row < side.row_end[r];
            float p = is_visible ? expf(scores[r][j] * side.scale - m) / l : 0.0f;
            tiles.P[own_row(r) * SCORES_PITCH + streamed_row(j)] = p;
            tiles.dS[own_row(r) * SCORES_PITCH + streamed_row(j)] = p * (dP[r][j] - D) * side.scale;
        }
    }
    __syncwarp();  // P and dS are exchanged only between the lanes of a warp
}

// dy and q (B, T, H, d), stats (B, T, H, 3) from above, k and v (B, S, K, d)  ->  out_k and out_v (B, S, K, d)
extern "C" __global__ __launch_bounds__(THREADS)
void attention_backward_kv(float *out_k, float *out_v, const float *dy, const float *q, const float *stats,
                           const float *k, const float *v, int causal, int chunk, long long kv_start, int B, int T,
                           int S, int H, int K, int d) {
    extern __shared__ __align__(16) float memory[];
    AttentionShape shape = {causal, chunk, kv_start, T, S, H, K, d};
    Tiles tiles(memory, shape.pitch());
    int kv_head = blockIdx.y, b = blockIdx.z, begin = blockIdx.x * TILE, count = min(TILE, S - begin);
    auto at = [&](int r) { return shape.kv_row(b, kv_head, begin + r) * d; };
    load_tile(tiles.k, TILE, d, tiles.pitch, [&](int r) { return r < count ? k + at(r) : nullptr; });
    load_tile(tiles.v, TILE, d, tiles.pitch, [&](int r) { return r < count ? v + at(r) : nullptr; });

    KeySide side = {shape, dy, q, stats, b, kv_head, {}, {}, shape.end_row(begin + count - 1), 1.0f / sqrtf((float) d)};
    #pragma unroll
    for (int r = 0; r < 2; r++) {
        int s = begin + min(own_row(r), count - 1);
        side.row_begin[r] = shape.first_row(s), side.row_end[r] = shape.end_row(s);
    }
    int tile_count = 0;
    float dk[2][4][4] = {}, dv[2][4][4] = {};
    auto k_row = [&](int r) { return r < count ? out_k + at(r) : nullptr; };
    auto v_row = [&](int r) { return r < count ? out_v + at(r) : nullptr; };
    for (int n = shape.first_row(begin); n < side.end; n += TILE) {
        compute_P_and_dS(tiles, side, n);
        add_weighted_rows(dk, tiles.dS, tiles.q, d, tiles.pitch);
        add_weighted_rows(dv, tiles.P, tiles.dy, d, tiles.pitch);
        if (++tile_count % TILES_PER_SUM) continue;
        flush_sums(dk, tile_count == TILES_PER_SUM, d, k_row), flush_sums(dv, tile_count == TILES_PER_SUM, d, v_row);
    }
    flush_sums(dk, tile_count < TILES_PER_SUM, d, k_row), flush_sums(dv, tile_count < TILES_PER_SUM, d, v_row);
}
