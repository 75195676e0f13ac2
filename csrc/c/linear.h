// Products that other kernels use.  Inside a parallel region, each is computed by the calling thread alone.
#pragma once

#include "simd.h"

// x (N, I), w (I, O) of one expert, in any format, bias (O) or NULL  ->  out (N, O), in a new parallel region.  For
// quantized weights, memory is allocated: see memory.h.
void matmul(float *out, const float *x, const matrix *w, int expert, const float *bias, int N, int I, int O);

// The same for unquantized weights in any layout and many rows: linear_3.c.  Allocates no memory.
void matmul_packed(float *out, const float *x, const matrix *w, int expert, const float *bias, int N, int I, int O);

// out (I, O) += x^T y, with x (N, I) and y (N, O)
void gemm_tn_accumulate(float *out, const float *x, const float *y, int N, int I, int O);

// The transpose of an unquantized matrix: (I, O) is read as (O, I)
static inline matrix transposed(const matrix *w) {
    matrix t = *w;
    t.in_stride = w->out_stride, t.out_stride = w->in_stride;
    return t;
}

// A row-major float32 array (I, O) as a matrix.
static inline matrix row_major(const float *values, int O) {
    return (matrix) {.values = values, .kind = F32, .in_stride = O, .out_stride = 1};
}
