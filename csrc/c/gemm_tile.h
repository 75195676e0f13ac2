// The core of every large product: a tile of outputs that stays in registers while all inputs are read.
//
// In plain C, with the names of BLIS and GotoBLAS for the block sizes: x (MR, depth), a packed panel (depth, NR)
//
//     for (int k = 0; k < depth; k++)
//         for (int r = 0; r < MR; r++)
//             for (int c = 0; c < NR; c++) sum[r][c] += x[r][k] * panel[k][c];    // sum: registers
//     out += sum;
//
// Every element of the panel is used for MR rows, every element of x for NR columns.
#pragma once

#include "simd.h"

enum { MR = LANES == 16 ? 8 : 6, NR = 2 * LANES };  // three quarters of 16 registers, or half of 32, hold sums
enum { KC = 128, NC = 256 };  // a packed block: NC columns of KC inputs, 128 KB, stays in the L2 cache

// Memory that will be needed soon: it is prefetched a cache line at a time while something else is computed.
typedef struct {
    const char *line;      // the next line of the first row
    ptrdiff_t row_stride;  // bytes from one row to the next
    int lines_left;        // of each row
} prefetch_hint;

// Rows of x in their memory layout; one of the strides is the constant 1.
typedef struct {
    const float *values;
    ptrdiff_t row_stride, in_stride;
} x_rows;
INLINE x_rows skip_rows(x_rows x, int rows) {
    return (x_rows) {x.values + rows * x.row_stride, x.row_stride, x.in_stride};
}

// out (rows, NR) += x (rows, depth) * panel (depth, NR).  Called with constant rows, so that the loops unroll and `sum`
// stays in registers.  The sums begin at 0 and are added to out at the end: a sum of sums drifts less than one long
// sum.
INLINE void micro_kernel(float *out, ptrdiff_t out_stride, x_rows x, const float *panel, int rows, int depth,
                         prefetch_hint *prefetch) {
    int pending = prefetch && prefetch->lines_left-- > 0;
    const char *line = pending ? prefetch->line : (const char *) panel;  // if nothing is pending: nearly free
    ptrdiff_t step = pending ? prefetch->row_stride : 0;
    if (pending) prefetch->line += 64;
    vec sum[MR][NR / LANES] = {{{0}}};
    for (int k = 0; k < depth; k++) {
        const float *b = panel + (size_t) k * NR;
        __builtin_prefetch(line + k * step, 0, 2);
        #pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            #pragma GCC unroll 2
            for (int c = 0; c < NR / LANES; c++)
                sum[r][c] += x.values[r * x.row_stride + k * x.in_stride] * load(b + c * LANES);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < NR / LANES; c++) {
            float *y = out + r * out_stride + c * LANES;
            store(y, load(y) + sum[r][c]);
        }
}

// The same for any number of rows: MR at a time, then 4, 2 and 1.
INLINE void micro_kernels(float *out, ptrdiff_t out_stride, x_rows x, const float *panel, int rows, int depth,
                          prefetch_hint *prefetch) {
    for (; rows >= MR; rows -= MR, out += MR * out_stride, x = skip_rows(x, MR))
        micro_kernel(out, out_stride, x, panel, MR, depth, prefetch);
    for (int count = 4; count > 0; count /= 2) {
        if (!(rows & count)) continue;
        if (count == 4) micro_kernel(out, out_stride, x, panel, 4, depth, prefetch);
        if (count == 2) micro_kernel(out, out_stride, x, panel, 2, depth, prefetch);
        if (count == 1) micro_kernel(out, out_stride, x, panel, 1, depth, prefetch);
        out += count * out_stride, x = skip_rows(x, count);
    }
}

// out (rows, NR) += x (rows, depth) * panel (depth, NR)
NOINLINE void gemm_tile(float *out, ptrdiff_t out_stride, const float *x, ptrdiff_t x_stride, const float *panel,
                        int rows, int depth, prefetch_hint *prefetch) {
    micro_kernels(out, out_stride, (x_rows) {x, x_stride, 1}, panel, rows, depth, prefetch);
}

// out (rows, NR) += x^T * panel (depth, NR), where x is (depth, rows): gradients of weights need this.
NOINLINE void gemm_tile_t(float *out, ptrdiff_t out_stride, const float *x, ptrdiff_t x_stride, const float *panel,
                          int rows, int depth, prefetch_hint *prefetch) {
    micro_kernels(out, out_stride, (x_rows) {x, 1, x_stride}, panel, rows, depth, prefetch);
}

// Transpose LANES x LANES floats: the two halves are interleaved, as in shuffling cards, log2(LANES) times.
INLINE void transpose_square(vec *v) {
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

// A block of an unquantized matrix of any kind, from element `offset` on.
typedef struct {
    const void *values;
    int kind;
    ptrdiff_t offset, in_stride, out_stride;
} block_view;

// Up to NR columns of `depth` inputs, packed as floats (depth, NR), zero beyond the last column.  If one of the two
// strides is 1, memory is read a vector at a time along it.
INLINE void pack_kind(float *panel, block_view w, int depth, int columns, int kind) {
    for (int c = 0; c < NR; c += LANES) {
        int k = 0;
        if (w.out_stride == 1 && c + LANES <= columns) {
            for (; k < depth; k++)
                store(panel + (size_t) k * NR + c, load_as_f32(w.values, w.offset + k * w.in_stride + c, kind));
        } else if (w.in_stride == 1 && c + LANES <= columns) {
            for (; k + LANES <= depth; k += LANES) {
                vec square[LANES];
                for (int i = 0; i < LANES; i++)
                    square[i] = load_as_f32(w.values, w.offset + k + (c + i) * w.out_stride, kind);
                transpose_square(square);
                for (int i = 0; i < LANES; i++) store(panel + (size_t) (k + i) * NR + c, square[i]);
            }
        }
        for (; k < depth; k++)
            for (int i = c; i < c + LANES; i++) {
                float *y = &panel[(size_t) k * NR + i];
                if (i >= columns) *y = 0.0f;
                else *y = load_as_f32_scalar(w.values, w.offset + k * w.in_stride + i * w.out_stride, kind);
            }
    }
}
NOINLINE void pack_panel(float *panel, block_view w, int depth, int columns) {
    if (w.kind == F32) pack_kind(panel, w, depth, columns, F32);
    else if (w.kind == BF16) pack_kind(panel, w, depth, columns, BF16);
    else pack_kind(panel, w, depth, columns, F16);
}

// The block view of float32 (depth, columns), with rows `stride` elements apart; and of its transpose.
static inline block_view rows_view(const float *values, ptrdiff_t stride) {
    return (block_view) {values, F32, 0, stride, 1};
}
static inline block_view columns_view(const float *values, ptrdiff_t stride) {
    return (block_view) {values, F32, 0, 1, stride};
}
