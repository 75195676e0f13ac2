// Products for other kernels to build on.
#pragma once

#include "simd.h"

// x (N, I), w (I, O) of one expert, in any form, bias (O) or NULL  ->  out (N, O), in a parallel region of its own
void product(float *out, const float *x, const matrix *w, int expert, const float *bias, int N, int I, int O);

// The same for plain numbers and many rows: linear_3.c
void linear_packed(float *out, const float *x, const matrix *w, ptrdiff_t at, const float *bias, int N, int I, int O);
