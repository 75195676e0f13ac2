// How the kernels use the machine: vectors of 16 floats, written once for every processor.
//
// A vector type is an array that the compiler keeps in registers: one AVX-512 register, two of AVX2, four of SSE or
// NEON.  build.py compiles all kernels once for each level of processor, and tinyscout.kernels.library picks when it loads.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

enum { SMALL = 1 << 14 };      // fewer elements than this are done before a second thread has woken up
enum { LANES = 16 };

#define VECTOR(type, bytes) typedef type __attribute__((vector_size(bytes), aligned(sizeof(type)), may_alias))
VECTOR(float, 64) f32x16;       // aligned(sizeof(type)): they may be loaded from anywhere
VECTOR(int32_t, 64) i32x16;
VECTOR(uint32_t, 64) u32x16;
VECTOR(uint16_t, 32) u16x16;
VECTOR(float, 32) f32x8;
VECTOR(float, 16) f32x4;

static inline f32x16 load16(const float *p) { return *(const f32x16 *) p; }
static inline void store16(float *p, f32x16 v) { *(f32x16 *) p = v; }
static inline f32x16 all16(float x) { return x - (f32x16) {0}; }

// The first n of 16 numbers, the rest as `fill`; and back.
static inline f32x16 load_some(const float *p, int n, float fill) {
    f32x16 v = all16(fill);
    memcpy(&v, p, sizeof(float) * (size_t) n);
    return v;
}
static inline void store_some(float *p, f32x16 v, int n) { memcpy(p, &v, sizeof(float) * (size_t) n); }

// Half-precision numbers widened.  bfloat16 is the upper half of a float.
static inline f32x16 from_bf16(const uint16_t *p) {
    return (f32x16) (__builtin_convertvector(*(const u16x16 *) p, u32x16) << 16);
}
static inline float from_bf16_one(uint16_t h) {
    uint32_t bits = (uint32_t) h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline uint16_t to_bf16_one(float x) {       // to the nearest, halves to even; NaN stays NaN
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t) (bits >> 16 | 64);
    return (uint16_t) ((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static inline float from_f16_one(uint16_t h) {      // the exponent's bias differs by 112; zero and tiny are scaled
    uint32_t sign = (uint32_t) (h & 0x8000) << 16, rest = h & 0x7fff;
    uint32_t bits = rest >= 0x7c00 ? 0x7f800000 | rest << 13 : rest << 13;
    float x;
    memcpy(&x, &bits, sizeof x);
    if (rest < 0x7c00) x *= 0x1p112f;
    memcpy(&bits, &x, sizeof bits);
    bits |= sign;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float sum16(f32x16 v) {               // pairwise: short chains and small rounding errors
    f32x8 half[2];
    memcpy(half, &v, sizeof half);
    f32x8 eight = half[0] + half[1];
    f32x4 quarter[2];
    memcpy(quarter, &eight, sizeof quarter);
    f32x4 four = quarter[0] + quarter[1];
    return (four[0] + four[1]) + (four[2] + four[3]);
}

// Lane by lane a where the mask is -1, b where it is 0: what comparing two vectors gives.
static inline f32x16 choose(i32x16 mask, f32x16 a, f32x16 b) {
    return (f32x16) ((mask & (i32x16) a) | (~mask & (i32x16) b));
}
static inline f32x16 max_of(f32x16 a, f32x16 b) { return choose(a > b, a, b); }
static inline f32x16 min_of(f32x16 a, f32x16 b) { return choose(a < b, a, b); }

static inline float max16(f32x16 v) {
    float m = v[0];
    for (int i = 1; i < LANES; i++) m = v[i] > m ? v[i] : m;
    return m;
}

// e^x to about one unit in the last place: x = n ln 2 + r, a polynomial for e^r, and n added to the exponent.  Two
// halves of n, so that results below the smallest normal float come out right; NaN stays NaN.
static inline f32x16 exp16(f32x16 x) {
    const float log2e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f, round = 12582912.0f;
    x = choose(x > 89.0f, all16(89.0f), x);         // e^89 is infinite already, e^-104 zero
    x = choose(x < -104.0f, all16(-104.0f), x);
    f32x16 n = (x * log2e + round) - round;
    f32x16 r = (x - n * ln2_high) - n * ln2_low;
    f32x16 p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r) * r + r + 1.0f;
    i32x16 whole = __builtin_convertvector(n, i32x16), half = whole >> 1;
    return p * (f32x16) ((half + 127) << 23) * (f32x16) ((whole - half + 127) << 23);
}
