// Attention in tiles (FlashAttention), equation (online-softmax): one block owns 64 rows of one key head, and streams
// the keys, 32 at a time.
//
// A row is a query of one of the G heads that share that key head, so a tile of keys in shared memory serves all of
// them.  Each thread keeps 4 rows by 4 columns of scores in registers, and 4 rows by up to 16 channels of the result:
// each value it loads is used four times (attention_tile.cuh).  Tiles that no row may see are never loaded.  The plain
// form, for one row:
//
//     m = -infinity, l = 0, O = 0;
//     for each tile of keys {
//         scores = q k^T / sqrt(d), m_new = max(m, max(scores));
//         P = exp(scores - m_new), rescale = exp(m - m_new);
//         l = l * rescale + sum(P), O = O * rescale + P v, m = m_new;
//     }
//     out = O / l;
#include <math_constants.h>

#include "attention_tile.cuh"

enum { ROWS = 64, KEYS = STREAMED };

// Shared memory: q (ROWS, d), k and v (KEYS, d), P (ROWS, KEYS).
struct Tiles {
    float *q, *k, *v, *P;
    int pitch;

    __device__ Tiles(float *memory, int pitch)
        : q(memory), k(q + ROWS * pitch), v(k + KEYS * pitch), P(v + KEYS * pitch), pitch(pitch) {}
};

// A thread's state for its four rows: the keys they see, largest score, sum of weights, weighted sum of values.
struct OnlineSoftmax {
    int key_begin[4], key_end[4];
    float m[4], l[4], O[4][4][4];
};

__device__ void start(OnlineSoftmax &state, const AttentionShape &shape, const QueryRows &rows) {
    #pragma unroll
    for (int r = 0; r < 4; r++) {
        int n = rows.clamp_row(own_row(r));
        state.key_begin[r] = shape.first_key(n), state.key_end[r] = shape.end_key(n);
        state.m[r] = -CUDART_INF_F, state.l[r] = 0.0f;
        #pragma unroll
        for (int p = 0; p < 4; p++)
            #pragma unroll
            for (int e = 0; e < 4; e++) state.O[r][p][e] = 0.0f;
    }
}

// scores (4, KEYS), already q k^T, of the keys from s on  ->  P in shared memory; m, l and O rescaled for it
__device__ void online_softmax_rows(OnlineSoftmax &state, float *P, float (&scores)[4][4], int s, float scale) {
    #pragma unroll
    for (int r = 0; r < 4; r++) {
        float m_new = state.m[r];
        #pragma unroll
        for (int j = 0; j < 4; j++) {
            int key = s + streamed_row(j);
            bool is_visible = state.key_begin[r] <= key && key < state.key_end[r];
            scores[r][j] = is_visible ? scores[r][j] * scale : -CUDART_INF_F;
            m_new = fmaxf(m_new, scores[r][j]);
        }
        m_new = max_over_8_lanes(m_new);
        float base = m_new == -CUDART_INF_F ? 0.0f : m_new;  // this row has seen no key yet
        float rescale = expf(state.m[r] - base);
        state.m[r] = m_new, state.l[r] *= rescale;
        #pragma unroll
        for (int j = 0; j < 4; j++) {
            float p = expf(scores[r][j] - base);
            P[own_row(r) * SCORES_PITCH + streamed_row(j)] = p, state.l[r] += p;
        }
        #pragma unroll
        for (int p = 0; p < 4; p++)
            #pragma unroll
            for (int e = 0; e < 4; e++) state.O[r][p][e] *= rescale;
    }
}

// out (ROWS, d) = O / l
__device__ void write_rows(float *out, const OnlineSoftmax &state, const AttentionShape &shape, const QueryRows &rows) {
    #pragma unroll
    for (int r = 0; r < 4; r++) {
        float l = sum_over_8_lanes(state.l[r]), *out_row = out + rows.at(shape, own_row(r)) * shape.d;
        #pragma unroll
        for (int p = 0; p < 4; p++)
            #pragma unroll
            for (int e = 0; e < 4; e++) {
                int channel = 32 * p + threadIdx.x % 8 * 4 + e;
                if (own_row(r) < rows.count && channel < shape.d) out_row[channel] = state.O[r][p][e] / l;
            }
    }
}

template <class Number>
__device__ void flash_attention(float *out, const float *q, const Number *k, const Number *v, AttentionShape shape) {
    extern __shared__ __align__(16) float memory[];
    int d = shape.d, pitch = shape.pitch();
    Tiles tiles(memory, pitch);
    QueryRows rows = own_query_rows<ROWS>(shape);
    auto q_row = [&](int r) { return r < rows.count ? q + rows.at(shape, r) * d : nullptr; };
    load_tile(tiles.q, ROWS, d, pitch, q_row);

    OnlineSoftmax state;
    start(state, shape, rows);
    for (int s = rows.key_begin; s < rows.key_end; s += KEYS) {
        auto kv_row = [&](const Number *a, int r) {
            return s + r < rows.key_end ? a + shape.kv_row(rows.b, rows.kv_head, s + r) * d : nullptr;
        };
        __syncthreads();  // previous tiles are no longer in use
        load_tile(tiles.k, KEYS, d, pitch, [&](int r) { return kv_row(k, r); });
        load_tile(tiles.v, KEYS, d, pitch, [&](int r) { return kv_row(v, r); });
        __syncthreads();  // these are complete

        float scores[4][4] = {};
        add_row_products(scores, tiles.q, tiles.k, d, pitch);
        online_softmax_rows(state, tiles.P, scores, s, 1.0f / sqrtf((float) d));
        __syncwarp();  // P is exchanged only between the lanes of a warp
        add_weighted_rows(state.O, tiles.P, tiles.v, d, pitch);
    }
    write_rows(out, state, shape, rows);
}

// q (B, T, H, d), k and v (B, S, K, d) with d up to 128  ->  out (B, T, H, d)
extern "C" __global__ __launch_bounds__(THREADS)
void grouped_query_attention_2(float *out, const float *q, const float *k, const float *v, int causal, int chunk,
                               long long kv_start, int B, int T, int S, int H, int K, int d) {
    flash_attention(out, q, k, v, {causal, chunk, kv_start, T, S, H, K, d});
}

// The same for a cache in bfloat16.
extern "C" __global__ __launch_bounds__(THREADS)
void grouped_query_attention_2_bf16(float *out, const float *q, const bf16 *k, const bf16 *v, int causal, int chunk,
                                    long long kv_start, int B, int T, int S, int H, int K, int d) {
    flash_attention(out, q, k, v, {causal, chunk, kv_start, T, S, H, K, d});
}
