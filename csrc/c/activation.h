// Functions that the activations and their gradients share, a vector at a time.
#pragma once

#include "simd.h"

// The vector from p[i] on, of an array of n elements; past its end, 0 is read and nothing is written.
static inline vec load_at(const float *p, size_t i, size_t n) {
    return n - i >= LANES ? load(p + i) : load_partial(p + i, (int) (n - i), 0.0f);
}
static inline void store_at(float *p, size_t i, size_t n, vec v) {
    if (n - i >= LANES) store(p + i, v);
    else store_partial(p + i, v, (int) (n - i));
}

static inline vec sigmoid_vec(vec x) {
    vec e = exp_vec(-abs_vec(x));  // never overflows
    return select_vec(splat(0.0f) > x, e, splat(1.0f)) / (1.0f + e);
}

// The gradient of swiglu's gate, given `sigmoid` = sigmoid(gate)
static inline vec dswiglu_dgate(vec dy, vec gate, vec up, vec sigmoid) {
    return dy * up * sigmoid * (1.0f + gate * (1.0f - sigmoid));
}
