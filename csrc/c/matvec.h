// A few rows of x times an unquantized matrix, as in decoding: every weight is read once, so memory is the limit.
//
// In plain C it is   for (o) for (i) out[o] += x[i] * w[i][o];   in one of two orders: along the columns of w or along
// its rows, whichever is contiguous in memory.
#pragma once

#include "quantized_matvec.h"
#include "work_claim.h"

enum { MATVEC_MAX_ROWS = 4 };  // with more rows, packing is faster (linear_3.c)

// `rows` rows of x (I) times one column of w, which is contiguous from element `at` on.  Four sums of each row, added
// up in pairs, keep the dependency chain short.
INLINE void dot_rows_with_column(float *out, const float *x, const void *values, ptrdiff_t at, int rows, int I, int O,
                                 int kind) {
    vec sums[4][4] = {{{0}}};
    int I_full = I - I % LANES;  // in full vectors
    for (int i = 0; i < I_full; i += 4 * LANES)
        #pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            if (i + j * LANES >= I_full) break;
            __builtin_prefetch((const char *) values + (at + i + j * LANES) * (kind == F32 ? 4 : 2) + PREFETCH_BYTES);
            vec w = load_as_f32(values, at + i + j * LANES, kind);
            #pragma GCC unroll 4
            for (int r = 0; r < rows; r++) sums[r][j] += load(x + (size_t) r * I + i + j * LANES) * w;
        }
    if (I_full < I) {  // the remaining inputs, padded with zeros
        float tail[LANES] = {0};
        for (int i = I_full; i < I; i++) tail[i - I_full] = load_as_f32_scalar(values, at + i, kind);
        for (int r = 0; r < rows; r++)
            sums[r][0] += load_partial(x + (size_t) r * I + I_full, I - I_full, 0.0f) * load(tail);
    }
    for (int r = 0; r < rows; r++)
        out[(size_t) r * O] = reduce_add((sums[r][0] + sums[r][1]) + (sums[r][2] + sums[r][3]));
}

// Outputs of a matrix whose columns are contiguous, as a checkpoint stores a projection.
INLINE void matvec_columns(matvec p, ptrdiff_t at, range outputs, int kind) {
    const void *values = p.w->values;  // loaded once: the compiler cannot know that stores do not change it
    ptrdiff_t out_stride = p.w->out_stride;
    int N = p.N, I = p.I, O = p.O;
    for (int o = outputs.begin; o < outputs.end; o++)
        for (int n = 0; n < N; n += 4) {
            float *y = p.out + (size_t) n * O + o;
            const float *x = p.x + (size_t) n * I;
            ptrdiff_t column = at + o * out_stride;
            if (N - n >= 4) dot_rows_with_column(y, x, values, column, 4, I, O, kind);
            else
                for (int r = n; r < N; r++, y += O, x += I) dot_rows_with_column(y, x, values, column, 1, I, O, kind);
        }
}

// Outputs of a matrix whose rows are contiguous, as a checkpoint stores experts: 16 rows at a time are added to the
// outputs, which stay in the L1 cache.  Four sums of four terms keep the dependency chain short, and the error small.
INLINE void matvec_rows(matvec p, ptrdiff_t at, range outputs, int kind) {
    enum { ROWS = 16 };
    const void *values = p.w->values;  // loaded once, as above
    ptrdiff_t in_stride = p.w->in_stride;
    size_t bytes = sizeof(float) * (size_t) (outputs.end - outputs.begin);
    for (int n = 0; n < p.N; n++) memset(p.out + (size_t) n * p.O + outputs.begin, 0, bytes);
    for (int i = 0; i < p.I; i += ROWS) {
        int rows = p.I - i < ROWS ? p.I - i : ROWS;
        for (int n = 0; n < p.N; n++) {
            float *y = p.out + (size_t) n * p.O;
            const float *x = p.x + (size_t) n * p.I + i;
            int o = outputs.begin;
            for (; rows == ROWS && o + LANES <= outputs.end; o += LANES) {
                vec part[4] = {{0}};
                for (int j = 0; j < ROWS; j += 4)
                    for (int q = 0; q < 4; q++)
                        part[q] += x[j + q] * load_as_f32(values, at + (i + j + q) * in_stride + o, kind);
                store(y + o, load(y + o) + ((part[0] + part[1]) + (part[2] + part[3])));
            }
            for (; o < outputs.end; o++) {
                float part = 0.0f;
                for (int j = 0; j < rows; j++)
                    part += x[j] * load_as_f32_scalar(values, at + (i + j) * in_stride + o, kind);
                y[o] += part;
            }
        }
    }
}

// True if the weights are contiguous along columns or rows.  (Any other layout is packed.)
static inline int is_streamable(const matrix *w) { return w->in_stride == 1 || w->out_stride == 1; }

// A range of outputs of a product with unquantized weights.  Inlined, so that N = 1 is a constant in decode.c.
INLINE void matvec_range(const matvec *p, range outputs) {
    const matrix *w = p->w;
    ptrdiff_t at = p->expert * w->expert_stride;
    if (w->in_stride == 1) {
        if (w->kind == F32) matvec_columns(*p, at, outputs, F32);
        else if (w->kind == BF16) matvec_columns(*p, at, outputs, BF16);
        else matvec_columns(*p, at, outputs, F16);
    } else {
        if (w->kind == F32) matvec_rows(*p, at, outputs, F32);
        else if (w->kind == BF16) matvec_rows(*p, at, outputs, BF16);
        else matvec_rows(*p, at, outputs, F16);
    }
}
