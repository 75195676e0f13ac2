// Attention of one token: all heads together pass over the past in the order in which it lies in memory.
//
// A key is read for the few queries of its group only, so the time goes into reading.  A cache is (S, K, d): one head
// after the other would jump over the others' rows, and memory is fast only where the next line is the next to be read.
#pragma once

#include "attend.h"

enum { BLOCK = 16 };        // positions that are read at once: 8 KB of keys of 4 heads of 64 in bfloat16

// The queries of one token, and what is known of each so far.  W: d rounded up to whole vectors, zeros behind.
typedef struct {
    float *q;               // (H, W), already divided by the root of d
    float *sum;             // (H, W): weights times values
    float *most, *total;    // (H): largest score, sum of weights
    float *score;           // (H, KEYS)
    float *plain;           // (BLOCK, K, W): scratch, what had to be widened
} few_queries;

static inline int vectors(int d) { return (d + LANES - 1) / LANES * LANES; }
static inline few_queries few_queries_in(arena *a, int H, int K, int d) {
    return (few_queries) {
        .q = carve_floats(a, (size_t) H * vectors(d)),
        .sum = carve_floats(a, (size_t) H * vectors(d)),
        .score = carve_floats(a, (size_t) H * KEYS),
        .plain = carve_floats(a, (size_t) BLOCK * K * vectors(d)),
        .most = carve_floats(a, H),
        .total = carve_floats(a, H),
    };
}
static inline void few_queries_begin(few_queries *f, const float *q, int H, int d) {
    float root = 1.0f / sqrtf((float) d);
    memset(f->q, 0, sizeof(float) * (size_t) H * vectors(d));
    memset(f->sum, 0, sizeof(float) * (size_t) H * vectors(d));
    for (int h = 0; h < H; h++) {
        for (int c = 0; c < d; c++) f->q[(size_t) h * vectors(d) + c] = q[(size_t) h * d + c] * root;
        f->most[h] = -INFINITY, f->total[h] = 0.0f;
    }
}

// Keys or values at n positions from s on: in the cache itself where they are whole vectors of plain numbers.
typedef struct {
    const void *values;
    ptrdiff_t at, position, head;       // where the first one is; how far it is to the next position, and to the next head
    int kind, n;
} rows_of_past;

static inline rows_of_past rows_at(const few_queries *f, const past *k, int s, int n, int K, int d) {
    int W = vectors(d);
    if (k->kind <= BF16 && W == d) return (rows_of_past) {k->values, (ptrdiff_t) s * K * d, (ptrdiff_t) K * d, d, k->kind, n};
    memset(f->plain, 0, sizeof(float) * (size_t) BLOCK * K * W);
    for (int i = 0; i < n; i++)
        for (int head = 0; head < K; head++) widen_row(f->plain + (size_t) (i * K + head) * W, k, ((ptrdiff_t) (s + i) * K + head) * d, d);
    return (rows_of_past) {f->plain, 0, (ptrdiff_t) K * W, W, F32, n};
}

// A vector of position p, channels c and on; and the same of the next block is asked for.  Beyond the last position the
// last stands again: its weight will be 0.
INLINE vec of_past(const rows_of_past *k, ptrdiff_t at, int p, int kind) {
    at += (p < k->n ? p : k->n - 1) * k->position;
    __builtin_prefetch((const char *) k->values + (at + 2 * BLOCK * k->position) * (kind == F32 ? 4 : 2));
    return widened(k->values, at, kind);
}

// score (rows, KEYS) from p on: the dot products of `rows` queries with as many keys as there are lanes left for.
INLINE void few_scores(float *score, const float *q, const rows_of_past *k, ptrdiff_t at, int p, int W, int rows, int kind) {
    int keys = LANES / rows;
    vec product[LANES] = {{0}};
    for (int c = 0; c < W; c += LANES)
        #pragma GCC unroll 16
        for (int j = 0; j < keys; j++) {
            vec key = of_past(k, at + c, p + j, kind);
            #pragma GCC unroll 4
            for (int r = 0; r < rows; r++) product[r * keys + j] += load(q + (size_t) r * W + c) * key;
        }
    transpose(product);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) product[i] += product[i + half];
    for (int r = 0; r < rows; r++) memcpy(score + r * KEYS + p, (float *) product + r * keys, sizeof(float) * (size_t) keys);
}

// sum (rows, W) += weights (rows, KEYS) of a block of positions times their values.
INLINE void few_sums(float *sum, const float *weight, const rows_of_past *v, ptrdiff_t at, int W, int rows, int kind) {
    for (int c = 0; c < W; c += LANES) {
        vec value[BLOCK];
        #pragma GCC unroll 16
        for (int p = 0; p < BLOCK; p++) value[p] = of_past(v, at + c, p, kind);
        for (int r = 0; r < rows; r++) {
            vec even = {0}, odd = {0};
            #pragma GCC unroll 16
            for (int p = 0; p < BLOCK; p += 2) {
                even += weight[r * KEYS + p] * value[p];
                odd += weight[r * KEYS + p + 1] * value[p + 1];
            }
            float *y = sum + (size_t) r * W + c;
            store(y, load(y) + (even + odd));
        }
    }
}

INLINE void score_block(float *score, const float *q, const rows_of_past *k, int G, int K, int W, int kind) {
    for (int p = 0; p < BLOCK; p += LANES / 4)
        for (int h = 0; h < G * K; h += G)
            for (int g = 0, some; g < G; g += some) {
                float *s = score + (size_t) (h + g) * KEYS;
                const float *x = q + (size_t) (h + g) * W;
                ptrdiff_t at = k->at + h / G * k->head;
                some = G - g >= 4 ? 4 : G - g >= 2 ? 2 : 1;
                if (some == 4) few_scores(s, x, k, at, p, W, 4, kind);
                else if (some == 2 && p % (LANES / 2) == 0) few_scores(s, x, k, at, p, W, 2, kind);
                else if (some == 1 && p % LANES == 0) few_scores(s, x, k, at, p, W, 1, kind);
            }
}

// All queries read the positions low to high - 1.
static inline void few_read(few_queries *f, const past *k, const past *v, int low, int high, int H, int K, int d) {
    int W = vectors(d), G = H / K;
    for (int s = low; s < high; s += KEYS) {
        int n = high - s < KEYS ? high - s : KEYS;
        for (int p = 0; p < n; p += BLOCK) {
            rows_of_past rows = rows_at(f, k, s + p, n - p < BLOCK ? n - p : BLOCK, K, d);
            if (rows.kind == F32) score_block(f->score + p, f->q, &rows, G, K, W, F32);
            else score_block(f->score + p, f->q, &rows, G, K, W, BF16);
        }
        for (int h = 0; h < H; h++) {
            float *sum = f->sum + (size_t) h * W;
            float before = soften(f->score + (size_t) h * KEYS, &f->most[h], &f->total[h], n);
            for (int c = 0; c < W && before != 1.0f; c += LANES) store(sum + c, load(sum + c) * before);
        }
        for (int p = 0; p < n; p += BLOCK) {
            rows_of_past rows = rows_at(f, v, s + p, n - p < BLOCK ? n - p : BLOCK, K, d);
            for (int h = 0; h < H; h += G) {
                float *sum = f->sum + (size_t) h * W, *weight = f->score + (size_t) h * KEYS + p;
                ptrdiff_t at = rows.at + h / G * rows.head;
                if (rows.kind == F32) few_sums(sum, weight, &rows, at, W, G, F32);
                else few_sums(sum, weight, &rows, at, W, G, BF16);
            }
        }
    }
}
