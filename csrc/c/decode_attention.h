// Attention of one token: all heads together read the keys in memory order.
//
// A key is used for the G queries of its group only, so most of the time is spent reading memory.  A cache is (S, K,
// d): processing one head after the other would skip the rows of the other heads, and memory is fast only if it is read
// sequentially.  So a block is BLOCK positions of all K heads, which are adjacent (W: d rounded up to full vectors):
//
//     position s       | head 0: W channels | head 1: W channels | ... | head K-1 |
//     position s + 1   | head 0: W channels | head 1: W channels | ... | head K-1 |
//     ...
//
// In plain C, with the online softmax of online_softmax.h for each head h:
//
//     for (int s = begin; s < end; s++)
//         for (int h = 0; h < H; h++) S[h][s] = dot(q[h], k[s][h / G]);
//     for (int h = 0; h < H; h++) P[h] = online_softmax(S[h]);
//     for (int s = begin; s < end; s++)
//         for (int h = 0; h < H; h++) O[h] += P[h][s] * v[s][h / G];
#pragma once

#include "online_softmax.h"

enum { BLOCK = 16 };  // positions per block: 8 KB of keys for 4 heads of 64 in bfloat16

// The queries of one token, and the running softmax of each head.
typedef struct {
    float *q;      // (H, W), divided by the root of d, padded with zeros
    float *O;      // (H, W): weights times values
    float *m, *l;  // (H): largest score, sum of weights
    float *P;      // (H, KEYS): scores, then weights
    float *kv;     // (BLOCK, K, W): keys or values that had to be converted
    int H, K, d, W;
} decode_attention_state;

static inline decode_attention_state decode_attention_state_in(arena *a, int H, int K, int d) {
    int W = round_up(d, LANES);
    return (decode_attention_state) {
        .q = carve_floats(a, (size_t) H * W),
        .O = carve_floats(a, (size_t) H * W),
        .P = carve_floats(a, (size_t) H * KEYS),
        .kv = carve_floats(a, (size_t) BLOCK * K * W),
        .m = carve_floats(a, H),
        .l = carve_floats(a, H),
        .H = H,
        .K = K,
        .d = d,
        .W = W,
    };
}
static inline void decode_attention_reset(decode_attention_state *st, const float *q) {
    int W = st->W, d = st->d;
    float root = 1.0f / sqrtf((float) d);
    memset(st->q, 0, sizeof(float) * (size_t) st->H * W);
    memset(st->O, 0, sizeof(float) * (size_t) st->H * W);
    for (int h = 0; h < st->H; h++) {
        for (int c = 0; c < d; c++) st->q[(size_t) h * W + c] = q[(size_t) h * d + c] * root;
        st->m[h] = -INFINITY, st->l[h] = 0.0f;
    }
}

// Keys or values at n positions: in the cache itself if they are full vectors and not quantized.
typedef struct {
    const void *values;
    ptrdiff_t at, position_stride, head_stride;
    int kind, n;
} kv_block;

static inline kv_block load_kv_block(const decode_attention_state *st, const kv_view *k, int s, int n) {
    int K = st->K, d = st->d, W = st->W;
    ptrdiff_t at = (ptrdiff_t) s * K * d;
    if (k->kind <= BF16 && W == d) return (kv_block) {k->values, at, (ptrdiff_t) K * d, d, k->kind, n};
    memset(st->kv, 0, sizeof(float) * (size_t) BLOCK * K * W);
    for (int row = 0; row < n * K; row++) load_kv_row(st->kv + (size_t) row * W, k, at + (ptrdiff_t) row * d, d);
    return (kv_block) {st->kv, 0, (ptrdiff_t) K * W, W, F32, n};
}

// The vector of position p from element `at` on; the same vector two blocks later is prefetched.  Past the last
// position, the last one is loaded again: its weight will be 0.
INLINE vec load_kv_vec(const kv_block *k, ptrdiff_t at, int p, int kind) {
    at += (p < k->n ? p : k->n - 1) * k->position_stride;
    __builtin_prefetch((const char *) k->values + (at + 2 * BLOCK * k->position_stride) * (kind == F32 ? 4 : 2));
    return load_as_f32(k->values, at, kind);
}

// S (rows, KEYS) from position p on = q (rows, W) k^T, for LANES / rows keys: the LANES dot products are accumulated in
// LANES vectors, which are transposed and added up pairwise, for all lanes in parallel.
INLINE void decode_scores(float *S, const float *q, const kv_block *k, ptrdiff_t at, int p, int W, int rows, int kind) {
    int keys = LANES / rows;
    vec product[LANES] = {{0}};
    for (int c = 0; c < W; c += LANES)
        #pragma GCC unroll 16
        for (int j = 0; j < keys; j++) {
            vec key = load_kv_vec(k, at + c, p + j, kind);
            #pragma GCC unroll 4
            for (int r = 0; r < rows; r++) product[r * keys + j] += load(q + (size_t) r * W + c) * key;
        }
    transpose_square(product);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) product[i] += product[i + half];
    for (int r = 0; r < rows; r++)
        memcpy(S + r * KEYS + p, (float *) product + r * keys, sizeof(float) * (size_t) keys);
}

// O (rows, W) += P (rows, KEYS) of a block of positions times their values.
INLINE void decode_weighted_sum(float *O, const float *P, const kv_block *v, ptrdiff_t at, int W, int rows, int kind) {
    for (int c = 0; c < W; c += LANES) {
        vec value[BLOCK];
        #pragma GCC unroll 16
        for (int p = 0; p < BLOCK; p++) value[p] = load_kv_vec(v, at + c, p, kind);
        for (int r = 0; r < rows; r++) {
            vec even = {0}, odd = {0};
            #pragma GCC unroll 16
            for (int p = 0; p < BLOCK; p += 2) {
                even += P[r * KEYS + p] * value[p];
                odd += P[r * KEYS + p + 1] * value[p + 1];
            }
            float *y = O + (size_t) r * W + c;
            store(y, load(y) + (even + odd));
        }
    }
}

// Scores of a block for all heads: 4, 2 or 1 queries of a group at a time, with LANES / 4, / 2 or / 1 keys.
INLINE void score_block(float *S, const float *q, const kv_block *k, int G, int K, int W, int kind) {
    for (int p = 0; p < BLOCK; p += LANES / 4)
        for (int h = 0; h < G * K; h += G)
            for (int g = 0, rows; g < G; g += rows) {
                float *S_row = S + (size_t) (h + g) * KEYS;
                const float *q_row = q + (size_t) (h + g) * W;
                ptrdiff_t at = k->at + h / G * k->head_stride;
                rows = G - g >= 4 ? 4 : G - g >= 2 ? 2 : 1;
                if (rows == 4) decode_scores(S_row, q_row, k, at, p, W, 4, kind);
                else if (rows == 2 && p % (LANES / 2) == 0) decode_scores(S_row, q_row, k, at, p, W, 2, kind);
                else if (rows == 1 && p % LANES == 0) decode_scores(S_row, q_row, k, at, p, W, 1, kind);
            }
}

// All queries read the positions begin to end - 1.
static inline void decode_attend(decode_attention_state *st, const kv_view *k, const kv_view *v, int begin, int end) {
    int H = st->H, K = st->K, W = st->W, G = H / K;
    for (int s = begin; s < end; s += KEYS) {
        int n = min_int(end - s, KEYS);
        // scores (H, KEYS) = q k^T, a block of positions at a time
        for (int p = 0; p < n; p += BLOCK) {
            kv_block block = load_kv_block(st, k, s + p, min_int(n - p, BLOCK));
            if (block.kind == F32) score_block(st->P + p, st->q, &block, G, K, W, F32);
            else score_block(st->P + p, st->q, &block, G, K, W, BF16);
        }
        // weights P (H, KEYS); O (H, W) is scaled down if a larger score was found
        for (int h = 0; h < H; h++) {
            float *O = st->O + (size_t) h * W;
            float alpha = online_softmax_row(st->P + (size_t) h * KEYS, &st->m[h], &st->l[h], n);
            for (int c = 0; c < W && alpha != 1.0f; c += LANES) store(O + c, load(O + c) * alpha);
        }
        // O (H, W) += P v, a block of positions at a time
        for (int p = 0; p < n; p += BLOCK) {
            kv_block block = load_kv_block(st, v, s + p, min_int(n - p, BLOCK));
            for (int h = 0; h < H; h += G) {
                float *O = st->O + (size_t) h * W, *P = st->P + (size_t) h * KEYS + p;
                ptrdiff_t at = block.at + h / G * block.head_stride;
                if (block.kind == F32) decode_weighted_sum(O, P, &block, at, W, G, F32);
                else decode_weighted_sum(O, P, &block, at, W, G, BF16);
            }
        }
    }
}
