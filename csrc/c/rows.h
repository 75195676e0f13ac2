// Few rows of x against a matrix of any form: every weight is read once, so memory sets the pace (decoding).
//
// The threads of a parallel region take outputs in turn: sums are never cut, so the result does not depend on the
// number of threads.
#pragma once

#include <stdatomic.h>

#include "threads.h"
#include "bits.h"

enum { FEW = 5 };          // from this many rows on, plain numbers are packed (linear_3.c)

// `rows` rows of x against one column of w, a run of I numbers in memory.  Four sums of each row keep the chain short.
INLINE void dots(float *out, const float *x, const void *values, ptrdiff_t at, int rows, int I, int O, int kind) {
    vec sums[4][4] = {{{0}}};
    int whole = I - I % LANES;
    for (int i = 0; i < whole; i += 4 * LANES)
        #pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            if (i + j * LANES >= whole) break;
            __builtin_prefetch((const char *) values + (at + i + j * LANES) * (kind == F32 ? 4 : 2) + AHEAD);
            vec w = widened(values, at + i + j * LANES, kind);
            #pragma GCC unroll 4
            for (int r = 0; r < rows; r++) sums[r][j] += load(x + (size_t) r * I + i + j * LANES) * w;
        }
    if (whole < I) {                                // what is left, with zeros behind it
        float rest[LANES] = {0};
        for (int i = whole; i < I; i++) rest[i - whole] = widened_one(values, at + i, kind);
        for (int r = 0; r < rows; r++)
            sums[r][0] += load_some(x + (size_t) r * I + whole, I - whole, 0.0f) * load(rest);
    }
    for (int r = 0; r < rows; r++) out[(size_t) r * O] = sum_lanes((sums[r][0] + sums[r][1]) + (sums[r][2] + sums[r][3]));
}

// Outputs first to last - 1, where each column of w is a run in memory, as a checkpoint stores a projection.
INLINE void rows_of_columns(float *out, const float *x, const matrix *w, ptrdiff_t at, int N, int I, int O,
                            int first, int last, int kind) {
    for (int o = first; o < last; o++)
        for (int n = 0; n < N; n += 4) {
            float *y = out + (size_t) n * O + o;
            const float *x_n = x + (size_t) n * I;
            if (N - n >= 4) dots(y, x_n, w->values, at + o * w->out, 4, I, O, kind);
            else for (int r = n; r < N; r++, y += O, x_n += I) dots(y, x_n, w->values, at + o * w->out, 1, I, O, kind);
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

enum { SHARE = 256 << 10 };        // bytes of weights

// The next outputs that no thread has taken yet, first to last - 1; false when there are none.  Equal shares, as many for
// each thread: a share is long enough to be read as one stream, and a thread that is held up does not hold up the others
// for long.
static int take(atomic_int *next, const matrix *w, int I, int O, int *first, int *last) {
    int64_t bytes = (int64_t) I * O * (w->kind == F32 ? 32 : w->kind == INT8 ? 8 : w->kind == INT4 ? 4 : 16) / 8;
    int64_t shares = threads() * ((bytes + threads() * SHARE - 1) / (threads() * SHARE));
    int share = (int) ((O + shares - 1) / shares);
    if (!w->scales && w->in != 1 && share < 256) share = 256;       // runs along a row should be long
    share = (share + COLUMNS - 1) / COLUMNS * COLUMNS;              // whole tiles and vectors
    *first = atomic_fetch_add_explicit(next, 1, memory_order_relaxed) * share;
    *last = O - *first < share ? O : *first + share;
    return *first < O;
}
