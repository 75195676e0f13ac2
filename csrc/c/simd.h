// How the kernels use the machine: vectors of LANES floats, written once for every processor.
//
// A vector type is an array that the compiler keeps in a register: 16 floats of AVX-512, 8 of AVX2, 4 of SSE or NEON.
// build.py compiles all kernels once for each level of processor, and tinyscout/kernels/c/library.py picks at load.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

enum { SMALL = 1 << 14 };      // fewer elements than this are done before a second thread has woken up

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

#define VECTOR(type, count) \
    typedef type __attribute__((vector_size(count * sizeof(type)), aligned(sizeof(type)), may_alias))
VECTOR(float, LANES) vec;       // aligned(sizeof(type)): it may be loaded from anywhere
VECTOR(int32_t, LANES) ivec;
VECTOR(uint32_t, LANES) uvec;
VECTOR(uint16_t, LANES) hvec;
VECTOR(int8_t, LANES) bvec;

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *p) { return *(const vec *) p; }
INLINE void store(float *p, vec v) { *(vec *) p = v; }
INLINE vec all(float x) { return x - (vec) {0}; }

// The first n numbers, the rest as `fill`; and back.
INLINE vec load_some(const float *p, int n, float fill) {
    vec v = all(fill);
    memcpy(&v, p, sizeof(float) * (size_t) n);
    return v;
}
INLINE void store_some(float *p, vec v, int n) { memcpy(p, &v, sizeof(float) * (size_t) n); }

// Lane by lane a where the mask is -1, b where it is 0: what comparing two vectors gives.
INLINE vec choose(ivec mask, vec a, vec b) { return (vec) ((mask & (ivec) a) | (~mask & (ivec) b)); }
INLINE vec max_of(vec a, vec b) { return choose(a > b, a, b); }
INLINE vec min_of(vec a, vec b) { return choose(a < b, a, b); }

INLINE float sum_lanes(vec v) {                           // pairwise: short chains and small rounding errors
    float x[LANES];
    memcpy(x, &v, sizeof x);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}
INLINE float largest_lane(vec v) {
    float x[LANES];
    memcpy(x, &v, sizeof x);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) x[i] = x[i + half] > x[i] ? x[i + half] : x[i];
    return x[0];
}

// Half precision.  bfloat16 is the upper half of a float; float16's exponent counts from another zero.
INLINE vec from_bf16(const uint16_t *p) { return (vec) (__builtin_convertvector(*(const hvec *) p, uvec) << 16); }
INLINE vec from_f16(const uint16_t *p) {
    uvec h = __builtin_convertvector(*(const hvec *) p, uvec), rest = h & 0x7fff;
    vec number = (vec) (rest << 13) * 0x1p112f, beyond = (vec) (rest << 13 | 0x7f800000);
    return (vec) ((uvec) choose((ivec) (rest >= 0x7c00), beyond, number) | (h & 0x8000) << 16);
}
INLINE float from_bf16_one(uint16_t h) {
    uint32_t bits = (uint32_t) h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
INLINE float from_f16_one(uint16_t h) {
    uint16_t padded[LANES] = {h};
    return from_f16(padded)[0];
}
INLINE uint16_t to_bf16_one(float x) {              // to the nearest, halves to even; NaN stays NaN
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t) (bits >> 16 | 64);
    return (uint16_t) ((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// A vector, or one, of stored numbers as floats.
INLINE vec widened(const void *values, ptrdiff_t at, int kind) {
    return kind == F32 ? load((const float *) values + at)
         : kind == BF16 ? from_bf16((const uint16_t *) values + at) : from_f16((const uint16_t *) values + at);
}
INLINE float widened_one(const void *values, ptrdiff_t at, int kind) {
    return kind == F32 ? ((const float *) values)[at]
         : kind == BF16 ? from_bf16_one(((const uint16_t *) values)[at]) : from_f16_one(((const uint16_t *) values)[at]);
}

// e^x to about one unit in the last place: x = n ln 2 + r, a polynomial for e^r, and n added to the exponent.  Two
// halves of n, so that results below the smallest normal float come out right; NaN stays NaN.
INLINE vec exp_of(vec x) {
    const float log2e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f, round = 12582912.0f;
    x = choose(x > 89.0f, all(89.0f), x);           // e^89 is infinite already, e^-104 zero
    x = choose(x < -104.0f, all(-104.0f), x);
    vec n = (x * log2e + round) - round;
    vec r = (x - n * ln2_high) - n * ln2_low;
    vec p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r) * r + r + 1.0f;
    ivec whole = __builtin_convertvector(n, ivec), half = whole >> 1;
    return p * (vec) ((half + 127) << 23) * (vec) ((whole - half + 127) << 23);
}
