// Attention with an online softmax, as in FlashAttention: keys and values are read in blocks, and only m (the largest
// score so far), l (the sum of the weights) and O (the weighted sum of values) are kept of every query row.  The scores
// of a query are never all in memory.  For one row and one block, in plain C:
//
//     for (int s = 0; s < n; s++) S[s] = dot(q, k[s]);
//     float m_new = max(m, max(S)), alpha = exp(m - m_new);           // alpha rescales the sums so far
//     l *= alpha, O *= alpha;
//     for (int s = 0; s < n; s++) {
//         float P = exp(S[s] - m_new);
//         l += P, O += P * v[s];
//     }
//     m = m_new;                                                      // after the last block: out = O / l
#pragma once

#include <math.h>

#include "gemm_tile.h"
#include "memory.h"

enum { KEYS = 64, QUERY_ROWS = 128 };  // keys in a block; query rows (queries times the heads of a group) that share it

// Some query rows that read the same key head, and the running softmax of each.
typedef struct {
    float *q;      // (rows, d), divided by the root of d
    float *O;      // (rows, O_stride)
    float *m, *l;  // (rows)
    int *visible;  // (rows): the row sees the keys before this one
    float *P;      // (rows, KEYS): scores, then weights
    float *kv;     // (KEYS, d): a block of keys or values as floats
    float *panel;  // the same, packed: (d, NR) or (KEYS, NR)
    int rows, d;   // rows in use
    int O_stride;  // d rounded up to full panels
} attention_state;

static inline attention_state attention_state_in(arena *a, int rows, int d) {
    int O_stride = round_up(d, NR);
    return (attention_state) {
        .q = carve_floats(a, (size_t) rows * d),
        .O = carve_floats(a, (size_t) rows * O_stride),
        .P = carve_floats(a, (size_t) rows * KEYS),
        .kv = carve_floats(a, (size_t) KEYS * d),
        .panel = carve_floats(a, (size_t) NR * (d > KEYS ? d : KEYS)),
        .m = carve_floats(a, rows),
        .l = carve_floats(a, rows),
        .visible = carve_ints(a, rows),
        .rows = rows,
        .d = d,
        .O_stride = O_stride,
    };
}
static inline size_t attention_state_bytes(int rows, int d) {
    arena count = {0};
    attention_state_in(&count, rows, d);
    return count.used;
}
static inline void attention_state_reset(attention_state *st, int rows) {
    st->rows = rows;
    memset(st->O, 0, sizeof(float) * (size_t) rows * st->O_stride);
    for (int i = 0; i < rows; i++) st->m[i] = -INFINITY, st->l[i] = 0.0f;
}

// `count` integers of int8 or int4 from element `at` on, times a scale, as floats.
static inline void dequantize_group(float *out, const void *values, ptrdiff_t at, int count, float scale, int kind) {
    const int8_t *bytes = (const int8_t *) values + (kind == INT4 ? at / 2 : at);
    if (kind == INT8) {
        for (int c = 0; c < count; c++) out[c] = scale * bytes[c];
        return;
    }
    for (int c = 0; c < count / 2; c++) {  // even channels in the low half, odd ones in the high half
        out[2 * c] = scale * ((int8_t) ((uint8_t) bytes[c] << 4) >> 4);
        out[2 * c + 1] = scale * (bytes[c] >> 4);
    }
}

// One head's key or value (d), from element `at` on, as floats.
static inline void load_kv_row(float *out, const kv_view *k, ptrdiff_t at, int d) {
    if (k->kind == F32) memcpy(out, (const float *) k->values + at, sizeof(float) * (size_t) d);
    else if (k->kind == BF16) {
        int c = 0;
        for (; c + LANES <= d; c += LANES) store(out + c, from_bf16((const uint16_t *) k->values + at + c));
        for (; c < d; c++) out[c] = from_bf16_scalar(((const uint16_t *) k->values)[at + c]);
    } else {
        for (int g = 0; g < d / k->group; g++) {
            float scale = load_as_f32_scalar(k->scales, at / k->group + g, k->scale_kind);
            dequantize_group(out + g * k->group, k->values, at + g * k->group, k->group, scale, k->kind);
        }
    }
}

// Keys or values of one sequence and key head, with rows `stride` elements apart from `at` on.
typedef struct {
    const kv_view *view;
    ptrdiff_t at, stride;
} head_rows;

// Positions s to s + n - 1  ->  out (KEYS, d) as floats, padded with zeros
static inline void load_kv_rows(float *out, head_rows k, int s, int n, int d) {
    memset(out + (size_t) n * d, 0, sizeof(float) * (size_t) (KEYS - n) * d);
    for (int i = 0; i < n; i++) load_kv_row(out + (size_t) i * d, k.view, k.at + (s + i) * k.stride, d);
}

// A row of scores, of which the first `visible` are valid, becomes weights P; m and l are updated  ->  alpha, the
// factor for O
static inline float online_softmax_row(float *P, float *m, float *l, int visible) {
    vec max = splat(*m), sum = {0};
    for (int c = 0; c < KEYS; c += LANES) {
        vec x = load(P + c);
        if (visible < c + LANES)
            for (int i = 0; i < LANES; i++) x[i] = c + i < visible ? x[i] : -INFINITY;
        store(P + c, x);
        max = max_vec(x, max);
    }
    float m_new = reduce_max(max), alpha = *l == 0.0f ? 0.0f : exp_vec(splat(*m - m_new))[0];
    for (int c = 0; c < KEYS; c += LANES) {
        vec weight = exp_vec(load(P + c) - m_new);
        store(P + c, weight);
        sum += weight;
    }
    *l = *l * alpha + reduce_add(sum);
    *m = m_new;
    return alpha;
}

// All rows read the keys begin to end - 1 of one head.
static inline void attend_keys(attention_state *st, head_rows k, head_rows v, int begin, int end) {
    int rows = st->rows, d = st->d, O_stride = st->O_stride;
    for (int s = begin; s < end; s += KEYS) {
        int n = min_int(end - s, KEYS);
        // scores (rows, KEYS) = q k^T
        load_kv_rows(st->kv, k, s, n, d);
        memset(st->P, 0, sizeof(float) * (size_t) rows * KEYS);
        for (int c = 0; c < KEYS; c += NR) {
            pack_panel(st->panel, columns_view(st->kv + (size_t) c * d, d), d, KEYS - c);
            gemm_tile(st->P + c, KEYS, st->q, d, st->panel, rows, d, NULL);
        }
        // weights P (rows, KEYS); O (rows, d) is scaled down if a larger score was found
        for (int i = 0; i < rows; i++) {
            float alpha = online_softmax_row(st->P + (size_t) i * KEYS, &st->m[i], &st->l[i], st->visible[i] - s);
            if (alpha == 1.0f) continue;
            float *row = st->O + (size_t) i * O_stride;
            for (int c = 0; c < O_stride; c += LANES) store(row + c, load(row + c) * alpha);
        }
        // O (rows, d) += P v
        load_kv_rows(st->kv, v, s, n, d);
        for (int c = 0; c < d; c += NR) {
            pack_panel(st->panel, rows_view(st->kv + c, d), KEYS, d - c);
            gemm_tile(st->O + c, O_stride, st->P, KEYS, st->panel, rows, KEYS, NULL);
        }
    }
}
