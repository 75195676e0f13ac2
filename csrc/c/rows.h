// Few rows of x against a matrix of any form: every weight is read once, so memory sets the pace (decoding).
//
// The threads of a parallel region take outputs in turn: sums are never cut, so the result does not depend on the
// number of threads.
#pragma once

#include <stdatomic.h>

#include "bits.h"

enum { FEW = 5 };          // from this many rows on, plain numbers are packed (linear_3.c)

// `columns` columns of w, each a run of I numbers in memory, against `rows` rows of x.
INLINE void dots(float *out, const float *x, const void *values, ptrdiff_t at, ptrdiff_t step,
                 int rows, int columns, int I, int O, int kind) {
    vec sums[4][4] = {{{0}}};
    int whole = I - I % LANES;
    for (int i = 0; i < whole; i += LANES) {
        vec w[4];
        for (int c = 0; c < columns; c++) {
            __builtin_prefetch((const char *) values + (at + c * step + i) * (kind == F32 ? 4 : 2) + 1024);
            w[c] = widened(values, at + c * step + i, kind);
        }
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++) sums[r][c] += load(x + (size_t) r * I + i) * w[c];
    }
    for (int c = 0; c < columns && whole < I; c++) {                // what is left, with zeros behind it
        float rest[LANES] = {0};
        for (int i = whole; i < I; i++) rest[i - whole] = widened_one(values, at + c * step + i, kind);
        for (int r = 0; r < rows; r++)
            sums[r][c] += load_some(x + (size_t) r * I + whole, I - whole, 0.0f) * load(rest);
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) out[(size_t) r * O + c] = sum_lanes(sums[r][c]);
}

// Outputs first to last - 1, where each column of w is a run in memory, as a checkpoint stores a projection.
INLINE void rows_of_columns(float *out, const float *x, const matrix *w, ptrdiff_t at, int N, int I, int O,
                            int first, int last, int kind) {
    for (int o = first; o < last; o += 4) {
        ptrdiff_t here = at + o * w->out;
        for (int n = 0; n < N; n += 4) {
            float *y = out + (size_t) n * O + o;
            const float *x_n = x + (size_t) n * I;
            if (last - o >= 4 && N - n >= 4) dots(y, x_n, w->values, here, w->out, 4, 4, I, O, kind);
            else for (int r = n; r < N && r < n + 4; r++, y += O, x_n += I) {
                if (last - o >= 4) dots(y, x_n, w->values, here, w->out, 1, 4, I, O, kind);
                else for (int c = 0; c < last - o; c++)
                    dots(y + c, x_n, w->values, here + c * w->out, w->out, 1, 1, I, O, kind);
            }
        }
    }
}

// The same where each row of w is a run in memory, as a checkpoint stores experts: sixteen rows at a time are added to
// the outputs, which stay in the nearest cache.  Four sums of four keep the chain short, and the error small.
INLINE void rows_of_rows(float *out, const float *x, const matrix *w, ptrdiff_t at, int N, int I, int O,
                         int first, int last, int kind) {
    enum { AT_ONCE = 16 };
    for (int n = 0; n < N; n++) memset(out + (size_t) n * O + first, 0, sizeof(float) * (size_t) (last - first));
    for (int i = 0; i < I; i += AT_ONCE) {
        int rows = I - i < AT_ONCE ? I - i : AT_ONCE;
        for (int n = 0; n < N; n++) {
            float *y = out + (size_t) n * O;
            const float *x_n = x + (size_t) n * I + i;
            int o = first;
            for (; rows == AT_ONCE && o + LANES <= last; o += LANES) {
                vec part[4] = {{0}};
                for (int j = 0; j < AT_ONCE; j += 4)
                    for (int p = 0; p < 4; p++)
                        part[p] += x_n[j + p] * widened(w->values, at + (i + j + p) * w->in + o, kind);
                store(y + o, load(y + o) + ((part[0] + part[1]) + (part[2] + part[3])));
            }
            for (; o < last; o++) {
                float part = 0.0f;
                for (int j = 0; j < rows; j++) part += x_n[j] * widened_one(w->values, at + (i + j) * w->in + o, kind);
                y[o] += part;
            }
        }
    }
}

// Can this matrix be read along a run, or is it in bits?  (Any other layout is packed.)
static inline int readable(const matrix *w) { return w->scales || w->in == 1 || w->out == 1; }

// Outputs first to last - 1:  x (N, I), also as bytes where w is in bits, w (I, O) of `expert`  ->  out (N, O)
static void few_rows(float *out, const float *x, const few *bytes, const matrix *w, int expert,
                     int N, int I, int O, int first, int last) {
    ptrdiff_t at = expert * w->expert;
    if (w->scales) few_product(out, bytes, w, expert, N, I, O, first / COLUMNS, last / COLUMNS);
    else if (w->in == 1) {
        if (w->kind == F32) rows_of_columns(out, x, w, at, N, I, O, first, last, F32);
        else if (w->kind == BF16) rows_of_columns(out, x, w, at, N, I, O, first, last, BF16);
        else rows_of_columns(out, x, w, at, N, I, O, first, last, F16);
    } else {
        if (w->kind == F32) rows_of_rows(out, x, w, at, N, I, O, first, last, F32);
        else if (w->kind == BF16) rows_of_rows(out, x, w, at, N, I, O, first, last, BF16);
        else rows_of_rows(out, x, w, at, N, I, O, first, last, F16);
    }
}

// The next outputs that no thread has taken yet, first to last - 1; false when there are none.  A share is about 64 KB
// of weights: a thread that is held up does not hold up the others for long.
static int take(atomic_int *next, const matrix *w, int I, int O, int *first, int *last) {
    int bits = w->kind == F32 ? 32 : w->kind == INT8 ? 8 : w->kind == INT4 ? 4 : 16;
    int share = (int) ((64l << 13) / ((long) I * bits));
    if (!w->scales && w->in != 1 && share < 512) share = 512;       // runs along a row should be long
    share = share / 16 * 16 + 16;                   // whole tiles and vectors
    *first = atomic_fetch_add_explicit(next, 1, memory_order_relaxed) * share;
    *last = O - *first < share ? O : *first + share;
    return *first < O;
}
