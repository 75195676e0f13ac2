// Attention with an online softmax: keys and values pass in tiles of 64, and of every query only its largest score
// so far, the sum of its weights and the weighted sum of values are kept.  When a larger score comes, what was kept is
// scaled down.  A query's scores never stand anywhere all at once.
#pragma once

#include <math.h>

#include "memory.h"
#include "tile.h"

enum { KEYS = 64, QUERIES = 128 };      // keys in a tile; rows (queries times the heads of a group) that share it

// Some rows of queries that read the same key head, and what is known so far.
typedef struct {
    float *q;               // (rows, d), already divided by the root of d
    float *sum;             // (rows, width): weights times values, width = d rounded up to whole panels
    float *most, *total;    // (rows): largest score, sum of weights
    int *seen;              // (rows): the row sees the keys before this one
    float *plain, *packed, *score;      // scratch: (KEYS, d), (KEYS or width, ...), (rows, KEYS)
} reader;

static inline int wide(int d) { return (d + PANEL - 1) / PANEL * PANEL; }
static inline reader reader_in(arena *a, int rows, int d) {
    return (reader) {
        .q = carve_floats(a, (size_t) rows * d),
        .sum = carve_floats(a, (size_t) rows * wide(d)),
        .score = carve_floats(a, (size_t) rows * KEYS),
        .plain = carve_floats(a, (size_t) KEYS * d),
        .packed = carve_floats(a, (size_t) KEYS * wide(d)),
        .most = carve_floats(a, rows),
        .total = carve_floats(a, rows),
        .seen = carve_ints(a, rows),
    };
}
static inline size_t reader_bytes(int rows, int d) {
    arena count = {0};
    reader_in(&count, rows, d);
    return count.used;
}
static inline void reader_begins(reader *r, int rows, int d) {
    memset(r->sum, 0, sizeof(float) * (size_t) rows * wide(d));
    for (int i = 0; i < rows; i++) r->most[i] = -INFINITY, r->total[i] = 0.0f;
}

// One head's key or value (d), which stands `at` so many numbers from the start, as floats.
static inline void widen_row(float *out, const past *k, ptrdiff_t at, int d) {
    if (k->kind == F32) memcpy(out, (const float *) k->values + at, sizeof(float) * (size_t) d);
    else if (k->kind == BF16) {
        int c = 0;
        for (; c + LANES <= d; c += LANES) store(out + c, from_bf16((const uint16_t *) k->values + at + c));
        for (; c < d; c++) out[c] = from_bf16_one(((const uint16_t *) k->values)[at + c]);
    } else {
        for (int g = 0; g < d / k->group; g++) {
            float scale = widened_one(k->scales, at / k->group + g, k->scale_kind), *y = out + g * k->group;
            const int8_t *bytes = (const int8_t *) k->values + (k->kind == INT4 ? (at + g * k->group) / 2 : at + g * k->group);
            if (k->kind == INT8) for (int c = 0; c < k->group; c++) y[c] = scale * bytes[c];
            else for (int c = 0; c < k->group / 2; c++) {
                y[2 * c] = scale * ((int8_t) ((uint8_t) bytes[c] << 4) >> 4);
                y[2 * c + 1] = scale * (bytes[c] >> 4);
            }
        }
    }
}

// n rows of keys or values of one head, from position s of sequence b on, as floats (KEYS, d), zeros behind them.
static inline void widen_rows(float *out, const past *k, int b, int s, int n, int head, int K, int d) {
    memset(out + (size_t) n * d, 0, sizeof(float) * (size_t) (KEYS - n) * d);
    for (int i = 0; i < n; i++) widen_row(out + (size_t) i * d, k, (((ptrdiff_t) b * k->batch + s + i) * K + head) * d, d);
}

// One row of scores becomes weights  ->  by how much all that came before is to be scaled
static inline float soften(float *score, float *most, float *total, int seen) {
    vec top = all(*most), sum_of_row = {0};
    for (int c = 0; c < KEYS; c += LANES) {
        vec x = load(score + c);
        if (seen < c + LANES)
            for (int i = 0; i < LANES; i++) x[i] = c + i < seen ? x[i] : -INFINITY;
        store(score + c, x);
        top = max_of(x, top);
    }
    float new_most = largest_lane(top), before = *total == 0.0f ? 0.0f : exp_of(all(*most - new_most))[0];
    for (int c = 0; c < KEYS; c += LANES) {
        vec weight = exp_of(load(score + c) - new_most);
        store(score + c, weight);
        sum_of_row += weight;
    }
    *total = *total * before + sum_lanes(sum_of_row);
    *most = new_most;
    return before;
}

// All rows read the keys low to high - 1 of one head.
static inline void read_keys(reader *r, int rows, const past *k, const past *v, int b, int low, int high, int head, int K, int d) {
    for (int s = low; s < high; s += KEYS) {
        int n = high - s < KEYS ? high - s : KEYS;
        widen_rows(r->plain, k, b, s, n, head, K, d);
        memset(r->score, 0, sizeof(float) * (size_t) rows * KEYS);
        for (int c = 0; c < KEYS; c += PANEL) {
            pack(r->packed, r->plain, F32, (ptrdiff_t) c * d, 1, d, d, KEYS - c);
            tile(r->score + c, KEYS, r->q, d, r->packed, rows, d, NULL);
        }
        for (int i = 0; i < rows; i++) {
            float before = soften(r->score + (size_t) i * KEYS, &r->most[i], &r->total[i], r->seen[i] - s);
            if (before == 1.0f) continue;
            float *row = r->sum + (size_t) i * wide(d);
            for (int c = 0; c < wide(d); c += LANES) store(row + c, load(row + c) * before);
        }
        widen_rows(r->plain, v, b, s, n, head, K, d);
        for (int c = 0; c < d; c += PANEL) {
            pack(r->packed, r->plain, F32, c, d, 1, KEYS, d - c);
            tile(r->sum + c, wide(d), r->score, KEYS, r->packed, rows, KEYS, NULL);
        }
    }
}
