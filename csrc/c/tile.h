// The heart of every large product: a tile of outputs that stays in registers while all inputs pass by.
#pragma once

#include "simd.h"

enum { ROWS = LANES == 16 ? 8 : 6, PANEL = 2 * LANES };     // two thirds of the registers, or half of 32, hold sums
enum { DEPTH = 128, WIDE = 256 };   // a packed stripe: WIDE columns of DEPTH inputs, 128 KB, in the second-level cache

// Memory that will be needed soon, and is asked for a line at a time while something else is computed.
typedef struct {
    const char *next;           // the next line of the first row
    ptrdiff_t row;              // bytes from one row to the next
    int lines;                  // lines that are still to come of each row
} ahead;

// out (rows, PANEL) += x (rows, depth) * panel (depth, PANEL).  Every number of the panel serves all rows, every number
// of x a whole row of the panel.  Called with constant rows, so that the loops unroll and `sum` is registers.  They
// begin at zero and are added to out in the end: sums of sums do not drift as one long sum would.
// x_row, x_in: how far it is to the next row and input of x; one of them is the constant 1.
INLINE void tile_of(float *out, ptrdiff_t out_row, const float *x, ptrdiff_t x_row, ptrdiff_t x_in, const float *panel,
                    int rows, int depth, ahead *soon) {
    int any = soon && soon->lines-- > 0;
    const char *line = any ? soon->next : (const char *) panel;         // this costs next to nothing
    ptrdiff_t step = any ? soon->row : 0;
    if (any) soon->next += 64;
    vec sum[ROWS][PANEL / LANES] = {{{0}}};
    for (int k = 0; k < depth; k++) {
        const float *b = panel + (size_t) k * PANEL;
        __builtin_prefetch(line + k * step, 0, 2);
        #pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            #pragma GCC unroll 2
            for (int c = 0; c < PANEL / LANES; c++) sum[r][c] += x[r * x_row + k * x_in] * load(b + c * LANES);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < PANEL / LANES; c++) {
            float *y = out + r * out_row + c * LANES;
            store(y, load(y) + sum[r][c]);
        }
}

// The same for any number of rows.
INLINE void tiles_of(float *out, ptrdiff_t out_row, const float *x, ptrdiff_t x_row, ptrdiff_t x_in, const float *panel,
                     int rows, int depth, ahead *soon) {
    for (; rows >= ROWS; rows -= ROWS, out += ROWS * out_row, x += ROWS * x_row)
        tile_of(out, out_row, x, x_row, x_in, panel, ROWS, depth, soon);
    for (int some = 4; some > 0; some /= 2) {
        if (!(rows & some)) continue;
        if (some == 4) tile_of(out, out_row, x, x_row, x_in, panel, 4, depth, soon);
        if (some == 2) tile_of(out, out_row, x, x_row, x_in, panel, 2, depth, soon);
        if (some == 1) tile_of(out, out_row, x, x_row, x_in, panel, 1, depth, soon);
        out += some * out_row, x += some * x_row;
    }
}
static inline void tile(float *out, ptrdiff_t out_row, const float *x, ptrdiff_t x_row, const float *panel,
                        int rows, int depth, ahead *soon) {
    tiles_of(out, out_row, x, x_row, 1, panel, rows, depth, soon);
}

// x turned over its diagonal, as gradients of weights need it: its rows lie side by side in memory.
static inline void tile_turned(float *out, ptrdiff_t out_row, const float *x, ptrdiff_t x_in, const float *panel,
                               int rows, int depth, ahead *soon) {
    tiles_of(out, out_row, x, 1, x_in, panel, rows, depth, soon);
}

// A square of LANES x LANES turned over its diagonal: again and again, its halves are shuffled like cards.
INLINE void transpose(vec *v) {
    for (int round = LANES; round > 1; round /= 2) {
        vec w[LANES];
        for (int i = 0; i < LANES / 2; i++) {
            vec a = v[i], b = v[i + LANES / 2];
#if defined(__AVX512F__)
            w[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            w[2 * i + 1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif defined(__AVX__)
            w[2 * i] = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
            w[2 * i + 1] = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
            w[2 * i] = __builtin_shufflevector(a, b, 0, 4, 1, 5);
            w[2 * i + 1] = __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
        }
        memcpy(v, w, sizeof w);
    }
}

// Up to PANEL columns (stride out) of `depth` inputs (stride in), packed as floats (depth, PANEL), zero where there is
// no column.  Whichever of the two strides is 1 is read a vector at a time.
INLINE void pack_kind(float *panel, const void *values, int kind, ptrdiff_t at, ptrdiff_t in, ptrdiff_t out,
                      int depth, int columns) {
    for (int c = 0; c < PANEL; c += LANES) {
        int k = 0;
        if (out == 1 && c + LANES <= columns) {
            for (; k < depth; k++) store(panel + (size_t) k * PANEL + c, widened(values, at + k * in + c, kind));
        } else if (in == 1 && c + LANES <= columns) {
            for (; k + LANES <= depth; k += LANES) {
                vec square[LANES];
                for (int i = 0; i < LANES; i++) square[i] = widened(values, at + k + (c + i) * out, kind);
                transpose(square);
                for (int i = 0; i < LANES; i++) store(panel + (size_t) (k + i) * PANEL + c, square[i]);
            }
        }
        for (; k < depth; k++)
            for (int i = c; i < c + LANES; i++)
                panel[(size_t) k * PANEL + i] = i < columns ? widened_one(values, at + k * in + i * out, kind) : 0.0f;
    }
}
static inline void pack(float *panel, const void *values, int kind, ptrdiff_t at, ptrdiff_t in, ptrdiff_t out,
                        int depth, int columns) {
    if (kind == F32) pack_kind(panel, values, F32, at, in, out, depth, columns);
    else if (kind == BF16) pack_kind(panel, values, BF16, at, in, out, depth, columns);
    else pack_kind(panel, values, F16, at, in, out, depth, columns);
}
