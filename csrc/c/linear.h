// Products for other kernels to build on.  Inside a parallel region each is computed by the thread that asks for it.
#pragma once

#include "simd.h"

// x (N, I), w (I, O) of one expert, in any form, bias (O) or NULL  ->  out (N, O), in a parallel region of its own
void product(float *out, const float *x, const matrix *w, int expert, const float *bias, int N, int I, int O);

// The same for plain numbers in any layout, from element `at` on, and many rows: linear_3.c
void linear_packed(float *out, const float *x, const matrix *w, ptrdiff_t at, const float *bias, int N, int I, int O);

// out (I, O) += x (N, I) turned over its diagonal, times y (N, O)
void turned_product(float *out, const float *x, const float *y, int N, int I, int O);

// The same matrix turned over its diagonal: (I, O) is read as (O, I)
static inline matrix turned(const matrix *w) {
    matrix t = *w;
    t.in = w->out, t.out = w->in;
    return t;
}
