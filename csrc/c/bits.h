// Products with matrices of few bits, equation (quantized): the row of x becomes bytes too, and integers are multiplied.
//
// 32 inputs of x share a scale d, so each is off by at most d/2.  A tile of 16 columns (tinyscout/reference/quantize.py)
// takes four inputs at a time: one instruction multiplies 64 pairs of bytes and adds them up in 16 lanes, or eight pairs
// in AVX2's.  The same in plain C stands beside it.
#pragma once

#include <math.h>

#include "memory.h"
#include "simd.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum { COLUMNS = 16, GROUP = 32 };      // of a tile; inputs of x that share a scale

typedef int8_t __attribute__((vector_size(16), aligned(1), may_alias)) bytes16;

// One row of x in bytes, from -127 to 127.
typedef struct {
    int8_t *bytes;          // (I) in order, then (I) with every 8 as 0 2 4 6 1 3 5 7: the order of 4-bit weights
    float *scale;           // (I / 32)
    int32_t *sum;           // (I / 32) of the bytes
} few;

static inline few few_in(arena *a, int I) {
    return (few) {
        .bytes = carve(a, 2 * (size_t) I),
        .scale = carve_floats(a, (size_t) I / GROUP),
        .sum = carve(a, sizeof(int32_t) * (size_t) I / GROUP),
    };
}

// Groups first to last - 1 of x (I).
static inline void to_bytes(few *y, const float *x, int I, int first, int last) {
    for (int g = first; g < last; g++) {
        vec most = {0}, check = {0};                // a NaN or an infinity must not become a number
        for (int i = g * GROUP; i < (g + 1) * GROUP; i += LANES) {
            vec v = load(x + i);
            most = max_of((vec) ((ivec) v & 0x7fffffff), most);
            check += v * 0.0f;
        }
        float top = largest_lane(most), inverse = top > 0.0f ? 127.0f / top : 0.0f;
        ivec total = {0};
        for (int i = g * GROUP; i < (g + 1) * GROUP; i += LANES) {
            ivec whole = __builtin_convertvector(load(x + i) * inverse + 12582912.0f - 12582912.0f, ivec);
            *(bvec *) (y->bytes + i) = __builtin_convertvector(whole, bvec);
            total += whole;
        }
        for (int i = g * GROUP; i < (g + 1) * GROUP; i += 16) {
            bytes16 b = *(bytes16 *) (y->bytes + i);
            *(bytes16 *) (y->bytes + I + i) =
                __builtin_shufflevector(b, b, 0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
        }
        y->scale[g] = top / 127.0f + sum_lanes(check);
        y->sum[g] = 0;
        for (int i = 0; i < LANES; i++) y->sum[g] += total[i];
    }
}

// sum[c] += the four products of column c's bytes with the four of x, for the LANES columns that `w` holds.
// OFFSET: what was added to every weight, to be taken off again as OFFSET times the sum of x.
#if defined(__AVX512VNNI__)
enum { OFFSET8 = 128, OFFSET4 = 8 };
INLINE ivec dot8(ivec sum, ivec w, int32_t x) {     // the instruction wants its first factor without sign
    return (ivec) _mm512_dpbusd_epi32((__m512i) sum, (__m512i) (w ^ (int32_t) 0x80808080), _mm512_set1_epi32(x));
}
INLINE ivec dot4(ivec sum, ivec w, int32_t x) {
    return (ivec) _mm512_dpbusd_epi32((__m512i) sum, (__m512i) w, _mm512_set1_epi32(x));
}
#elif defined(__AVX2__) && !defined(__AVX512F__)
enum { OFFSET8 = 0, OFFSET4 = 8 };
INLINE ivec dot8(ivec sum, ivec w, int32_t x) {     // |w| * (x with w's sign): two products of 127 fit into 16 bits
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8((__m256i) w), _mm256_sign_epi8(_mm256_set1_epi32(x), (__m256i) w));
    return sum + (ivec) _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
INLINE ivec dot4(ivec sum, ivec w, int32_t x) {
    return sum + (ivec) _mm256_madd_epi16(_mm256_maddubs_epi16((__m256i) w, _mm256_set1_epi32(x)), _mm256_set1_epi16(1));
}
#else
enum { OFFSET8 = 0, OFFSET4 = 8 };
INLINE ivec dot8(ivec sum, ivec w, int32_t x) {
    for (int j = 0; j < 4; j++) sum += (w << (24 - 8 * j) >> 24) * (x << (24 - 8 * j) >> 24);
    return sum;
}
INLINE ivec dot4(ivec sum, ivec w, int32_t x) { return dot8(sum, w, x); }
#endif

INLINE int32_t quad(const int8_t *bytes) {
    int32_t four;
    memcpy(&four, bytes, 4);
    return four;
}

enum { PARTS = COLUMNS / LANES, AT_MOST = LANES / 2 };      // vectors in a tile; rows of x whose sums fit in registers
enum { AHEAD = 4096 };                  // bytes to fetch before they are needed

// One tile of 16 columns for `rows` rows of x.  Called with constant rows and kind, so that the loops unroll.
INLINE void few_tile(float *out, ptrdiff_t out_row, const few *x, const matrix *w, ptrdiff_t tile, int I,
                     int rows, int kind) {
    const char *values = (const char *) w->values + tile * COLUMNS * I / (kind == INT4 ? 2 : 1);
    int group = w->group;
    ptrdiff_t scales = tile * COLUMNS * (I / group);
    int32_t offset = kind == INT4 ? OFFSET4 : OFFSET8;
    vec total[AT_MOST][PARTS] = {{{0}}};
    const char *scale_line = (const char *) w->scales + scales * 2;
    for (int g = 0; g < I / group; g++) {
        __builtin_prefetch(scale_line + g * COLUMNS * 2 + 1024);
        vec part[AT_MOST][PARTS] = {{{0}}};
        for (int h = g * group / GROUP; h < (g + 1) * group / GROUP; h++) {
            ivec sum[AT_MOST][PARTS];
            for (int r = 0; r < rows; r++)
                for (int p = 0; p < PARTS; p++) sum[r][p] = -offset * x[r].sum[h] - (ivec) {0};
            #pragma GCC unroll 8
            for (int k = 0; k < GROUP; k += kind == INT4 ? 8 : 4, values += 64) {
                __builtin_prefetch(values + AHEAD);
                #pragma GCC unroll 4
                for (int p = 0; p < PARTS; p++) {
                    ivec v = *(const ivec *) (values + 64 / PARTS * p);
                    if (kind == INT4) {
                        v ^= (int32_t) 0x88888888;
                        ivec even = v & 0x0f0f0f0f, odd = (v >> 4) & 0x0f0f0f0f;
                        #pragma GCC unroll 8
                        for (int r = 0; r < rows; r++) {
                            const int8_t *b = x[r].bytes + I + h * GROUP + k;
                            sum[r][p] = dot4(dot4(sum[r][p], even, quad(b)), odd, quad(b + 4));
                        }
                    } else {
                        #pragma GCC unroll 8
                        for (int r = 0; r < rows; r++) sum[r][p] = dot8(sum[r][p], v, quad(x[r].bytes + h * GROUP + k));
                    }
                }
            }
            for (int r = 0; r < rows; r++)
                for (int p = 0; p < PARTS; p++) part[r][p] += __builtin_convertvector(sum[r][p], vec) * x[r].scale[h];
        }
        for (int p = 0; p < PARTS; p++) {
            vec scale = widened(w->scales, scales + g * COLUMNS + p * LANES, w->scale_kind);
            for (int r = 0; r < rows; r++) total[r][p] += part[r][p] * scale;
        }
    }
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < PARTS; p++) store(out + r * out_row + p * LANES, total[r][p]);
}

INLINE void rows_of_tile(float *out, ptrdiff_t out_row, const few *x, const matrix *w, ptrdiff_t tile, int I,
                     int rows, int kind) {
    for (; rows >= AT_MOST; rows -= AT_MOST, out += AT_MOST * out_row, x += AT_MOST)
        few_tile(out, out_row, x, w, tile, I, AT_MOST, kind);
    for (; rows >= 1; rows -= 1, out += out_row, x += 1) few_tile(out, out_row, x, w, tile, I, 1, kind);
}

// Tiles first to last - 1 of a matrix for N rows of x  ->  out (N, O).  `tile` counts over all experts.
static void few_product(float *out, const few *x, const matrix *w, int expert, int N, int I, int O, int first, int last) {
    for (int t = first; t < last; t++) {
        ptrdiff_t tile = (ptrdiff_t) expert * (O / COLUMNS) + t;
        if (w->kind == INT4) rows_of_tile(out + (size_t) t * COLUMNS, O, x, w, tile, I, N, INT4);
        else rows_of_tile(out + (size_t) t * COLUMNS, O, x, w, tile, I, N, INT8);
    }
}
