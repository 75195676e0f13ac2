// Reductions of a row that softmax, the loss and gradients share: maximum, sum of exponentials, dot product.
#pragma once

#include "simd.h"

static inline float row_max(const float *x, int n) {
    int n_full = n - n % LANES;  // in full vectors
    vec max = load_partial(x + n_full, n - n_full, -__builtin_inff());
    for (int i = 0; i < n_full; i += LANES) max = max_vec(max, load(x + i));
    return reduce_max(max);  // may miss a NaN, but the sum of exponentials does not
}

enum { EXP_BLOCK = 64 * LANES };  // terms that are added up in floats: too few for the sum to drift

// The sum of e^(x - max), and each of the terms in out unless that is NULL.  A block is summed in floats, and the
// blocks in a double: a vocabulary has 200,000 terms.
INLINE double row_exp(float *out, const float *x, float max, int n) {
    double sum = 0.0;
    for (int start = 0; start < n; start += EXP_BLOCK) {
        int stop = n - start < EXP_BLOCK ? n : start + EXP_BLOCK, i = start;
        vec sums = {0};
        for (; i + LANES <= stop; i += LANES) {
            vec e = exp_vec(load(x + i) - max);
            if (out) store(out + i, e);
            sums += e;
        }
        if (i < stop) {  // missing lanes are minus infinity and add nothing
            vec e = exp_vec(load_partial(x + i, stop - i, -__builtin_inff()) - max);
            if (out) store_partial(out + i, e, stop - i);
            sums += e;
        }
        sum += reduce_add(sums);
    }
    return sum;
}

// The dot product of two rows, in several doubles in parallel: see norm.c
INLINE double dot(const float *x, const float *y, int n) {
    enum { SUMS = 2 * LANES };
    double sums[SUMS] = {0}, sum = 0.0;
    int i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (int l = 0; l < SUMS; l++) sums[l] += (double) x[i + l] * y[i + l];
    for (; i < n; i++) sum += (double) x[i] * y[i];
    for (int half = SUMS / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++) sums[l] += sums[l + half];
    return sum + sums[0];
}
