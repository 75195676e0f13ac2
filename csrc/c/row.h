// What softmax, the loss and gradients ask of a row: its largest number, the sum of its exponentials, a product with another.
#pragma once

#include "simd.h"

static inline float row_max(const float *x, int n) {
    int whole = n - n % LANES;
    vec most = load_some(x + whole, n - whole, -__builtin_inff());
    for (int i = 0; i < whole; i += LANES) most = max_of(most, load(x + i));
    return largest_lane(most);                 // NaN may get lost, but not from the sum
}

// The sum of e^(x - middle), and each of them in out unless that is NULL.  A vector of floats adds up a block, which is too
// short to drift, and a double the blocks: a vocabulary has 200,000 terms.
INLINE double row_exp(float *out, const float *x, float middle, int n) {
    enum { BLOCK = 64 * LANES };
    double sum = 0.0;
    for (int start = 0; start < n; start += BLOCK) {
        int stop = n - start < BLOCK ? n : start + BLOCK, i = start;
        vec sums = {0};
        for (; i + LANES <= stop; i += LANES) {
            vec e = exp_of(load(x + i) - middle);
            if (out) store(out + i, e);
            sums += e;
        }
        if (i < stop) {                 // what is missing counts as minus infinity
            vec e = exp_of(load_some(x + i, stop - i, -__builtin_inff()) - middle);
            if (out) store_some(out + i, e, stop - i);
            sums += e;
        }
        sum += sum_lanes(sums);
    }
    return sum;
}

// The sum of the products of two rows, in doubles side by side: see norm.c
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
