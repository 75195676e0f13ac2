// What the activations and their gradients have in common, a vector at a time.
#pragma once

#include "simd.h"

// The numbers from p[i] on, of n; past the end 0 is read and nothing written.
static inline vec read_at(const float *p, size_t i, size_t n) {
    return n - i >= LANES ? load(p + i) : load_some(p + i, (int) (n - i), 0.0f);
}
static inline void write_at(float *p, size_t i, size_t n, vec v) {
    if (n - i >= LANES) store(p + i, v);
    else store_some(p + i, v, (int) (n - i));
}

static inline vec absolute(vec x) { return (vec) ((ivec) x & 0x7fffffff); }

static inline vec sigmoid_of(vec x) {
    vec e = exp_of(-absolute(x));                                     // never overflows
    return choose(all(0.0f) > x, e, all(1.0f)) / (1.0f + e);
}

// What the gate of `swiglu` gains where dy comes down and sigmoid(gate) is `open`
static inline vec swiglu_slope(vec dy, vec gate, vec up, vec open) {
    return dy * up * open * (1.0f + gate * (1.0f - open));
}
