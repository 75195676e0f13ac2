// SIMD: vectors of LANES floats, written once for every processor.
//
// A vector type is an array that the compiler keeps in a register: 16 floats of AVX-512, 8 of AVX2, 4 of SSE or NEON.
// build.py compiles all kernels once for each level of processor, and tinyscout/kernels/c/library.py loads one.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

enum { PARALLEL_MIN = 1 << 14 };  // for fewer elements, starting a second thread takes longer than the work

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

#define VECTOR(type, count) \
    typedef type __attribute__((vector_size(count * sizeof(type)), aligned(sizeof(type)), may_alias))
VECTOR(float, LANES) vec;  // aligned(sizeof(type)): it may be loaded from any address
VECTOR(int32_t, LANES) ivec;
VECTOR(uint32_t, LANES) uvec;
VECTOR(uint16_t, LANES) hvec;
VECTOR(int8_t, LANES) bvec;

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline, unused))  // for a loop that needs all registers

INLINE int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }
INLINE int min_int(int a, int b) { return a < b ? a : b; }

INLINE vec load(const float *p) { return *(const vec *) p; }
INLINE void store(float *p, vec v) { *(vec *) p = v; }
INLINE vec splat(float x) { return x - (vec) {0}; }

// Load the first n lanes and set the others to `fill`; store the first n lanes.
INLINE vec load_partial(const float *p, int n, float fill) {
    vec v = splat(fill);
    memcpy(&v, p, sizeof(float) * (size_t) n);
    return v;
}
INLINE void store_partial(float *p, vec v, int n) { memcpy(p, &v, sizeof(float) * (size_t) n); }

// Lane by lane: a if the mask is -1, b if it is 0.  Comparing two vectors gives such a mask.
INLINE vec select_vec(ivec mask, vec a, vec b) { return (vec) ((mask & (ivec) a) | (~mask & (ivec) b)); }
INLINE vec max_vec(vec a, vec b) { return select_vec(a > b, a, b); }
INLINE vec min_vec(vec a, vec b) { return select_vec(a < b, a, b); }
INLINE vec abs_vec(vec x) { return (vec) ((ivec) x & 0x7fffffff); }

INLINE float reduce_add(vec v) {  // pairwise: short chains and small rounding errors
    float x[LANES];
    memcpy(x, &v, sizeof x);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}
INLINE float reduce_max(vec v) {
    float x[LANES];
    memcpy(x, &v, sizeof x);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) x[i] = x[i + half] > x[i] ? x[i + half] : x[i];
    return x[0];
}

// Half precision.  bfloat16 is the upper half of a float; float16 has an exponent with another bias.
INLINE vec from_bf16(const uint16_t *p) { return (vec) (__builtin_convertvector(*(const hvec *) p, uvec) << 16); }
INLINE vec from_f16(const uint16_t *p) {
    uvec h = __builtin_convertvector(*(const hvec *) p, uvec), magnitude = h & 0x7fff;
    vec finite = (vec) (magnitude << 13) * 0x1p112f, inf_or_nan = (vec) (magnitude << 13 | 0x7f800000);
    return (vec) ((uvec) select_vec((ivec) (magnitude >= 0x7c00), inf_or_nan, finite) | (h & 0x8000) << 16);
}
INLINE float from_bf16_scalar(uint16_t h) {
    uint32_t bits = (uint32_t) h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
INLINE float from_f16_scalar(uint16_t h) {
    uint16_t padded[LANES] = {h};
    return from_f16(padded)[0];
}
INLINE uint16_t to_bf16_scalar(float x) {  // round to nearest, ties to even; NaN stays NaN
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t) (bits >> 16 | 64);
    return (uint16_t) ((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Elements stored as F32, BF16 or F16, from element `at` on, as floats: a vector, or one.
INLINE vec load_as_f32(const void *values, ptrdiff_t at, int kind) {
    if (kind == F32) return load((const float *) values + at);
    return kind == BF16 ? from_bf16((const uint16_t *) values + at) : from_f16((const uint16_t *) values + at);
}
INLINE float load_as_f32_scalar(const void *values, ptrdiff_t at, int kind) {
    if (kind == F32) return ((const float *) values)[at];
    uint16_t h = ((const uint16_t *) values)[at];
    return kind == BF16 ? from_bf16_scalar(h) : from_f16_scalar(h);
}

// Adding and subtracting 1.5 * 2^23 rounds a float below 2^22 to an integer: floats of that size have no fraction.
#define ROUND_MAGIC 12582912.0f

// e^x to about one unit in the last place: x = n ln 2 + r, a polynomial for e^r, and n is added to the exponent, half
// of it at a time, so that results below the smallest normal float are correct.  NaN stays NaN.
INLINE vec exp_vec(vec x) {
    const float log2e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    x = select_vec(x > 89.0f, splat(89.0f), x);  // e^89 is infinite already, e^-104 zero
    x = select_vec(x < -104.0f, splat(-104.0f), x);
    vec n = (x * log2e + ROUND_MAGIC) - ROUND_MAGIC;
    vec r = (x - n * ln2_high) - n * ln2_low;
    vec p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r) * r + r + 1.0f;
    ivec exponent = __builtin_convertvector(n, ivec), half = exponent >> 1;
    return p * (vec) ((half + 127) << 23) * (vec) ((exponent - half + 127) << 23);
}
