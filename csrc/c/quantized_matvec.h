// Products with quantized matrices, equation (quantized): x is quantized to int8 as well, and integers are multiplied.
//
// A matrix (I, O) comes in tiles of 16 columns (tinyscout/reference/quantize.py).  In a tile, 64 bytes hold a few
// inputs i, i + 1, ... of all 16 columns; the next 64 bytes hold the next inputs:
//
//     int8    | column 0: i .. i+3 | column 1: i .. i+3 | ... | column 15: i .. i+3 |     a byte each
//     int4    | column 0: i .. i+7 | column 1: i .. i+7 | ... | column 15: i .. i+7 |     half a byte, even inputs low
//     scales  | column 0 | column 1 | ... | column 15 |                                   of `group` inputs
//
// One instruction of AVX-512 multiplies 64 pairs of bytes and adds them up in 16 lanes, one per column; AVX2 needs a
// few for 32 pairs and 8 lanes.  In plain C, for one row of x and one column of int8, w.group a multiple of 32:
//
//     for (int g = 0; g < I / w.group; g++) {
//         float part = 0;
//         for (int h = g * w.group / 32; h < (g + 1) * w.group / 32; h++) {
//             int32_t sum = 0;
//             for (int i = h * 32; i < (h + 1) * 32; i++) sum += w.values[i] * x.values[i];
//             part += sum * x.scales[h];
//         }
//         out += part * w.scales[g];
//     }
#pragma once

#include <math.h>

#include "memory.h"
#include "simd.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum { TILE_COLUMNS = 16, Q8_GROUP = 32 };  // Q8_GROUP: inputs of x that share a scale s; each is off by at most s/2

typedef int8_t __attribute__((vector_size(16), aligned(1), may_alias)) bytes16;

// One row of x as integers from -127 to 127.
typedef struct {
    int8_t *values;    // (I)
    int8_t *even_odd;  // (I): the same, every 8 in the order 0 2 4 6 1 3 5 7, as int4 weights are unpacked
    float *scales;     // (I / Q8_GROUP)
    int32_t *sums;     // (I / Q8_GROUP): of the integers
} q8_row;

static inline q8_row q8_row_in(arena *a, int I) {
    return (q8_row) {
        .values = carve(a, (size_t) I),
        .even_odd = carve(a, (size_t) I),
        .scales = carve_floats(a, (size_t) I / Q8_GROUP),
        .sums = carve(a, sizeof(int32_t) * (size_t) I / Q8_GROUP),
    };
}
static inline q8_row *q8_rows_in(arena *a, int rows, int I) {
    q8_row *x = carve(a, sizeof *x * (size_t) rows);
    for (int r = 0; r < rows; r++) {
        q8_row row = q8_row_in(a, I);
        if (x) x[r] = row;
    }
    return x;
}
static inline size_t q8_rows_bytes(int rows, int I) {
    arena count = {0};
    q8_rows_in(&count, rows, I);
    return count.used;
}

// x (I)  ->  row
static inline void quantize_row_q8(q8_row *row, const float *x, int I) {
    for (int g = 0; g < I / Q8_GROUP; g++) {
        int begin = g * Q8_GROUP, end = begin + Q8_GROUP;
        vec max = {0}, check = {0};  // check: a NaN or an infinity must not become a number
        for (int i = begin; i < end; i += LANES) {
            vec v = load(x + i);
            max = max_vec(abs_vec(v), max);
            check += v * 0.0f;
        }
        float abs_max = reduce_max(max), inverse = abs_max > 0.0f ? 127.0f / abs_max : 0.0f;
        ivec total = {0};
        for (int i = begin; i < end; i += LANES) {
            ivec rounded = __builtin_convertvector(load(x + i) * inverse + ROUND_MAGIC - ROUND_MAGIC, ivec);
            *(bvec *) (row->values + i) = __builtin_convertvector(rounded, bvec);
            total += rounded;
        }
        for (int i = begin; i < end; i += 16) {
            bytes16 b = *(bytes16 *) (row->values + i);
            *(bytes16 *) (row->even_odd + i) = __builtin_shufflevector(b, b, 0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9,
                                                                       11, 13, 15);
        }
        row->scales[g] = abs_max / 127.0f + reduce_add(check);
        row->sums[g] = 0;
        for (int i = 0; i < LANES; i++) row->sums[g] += total[i];
    }
}

// sum[c] += the dot product of column c's four bytes with the four of x, for the LANES columns that `w` holds. dot_int8
// has signed weights, dot_int4 weights from 0 to 15.  Some instructions need unsigned weights: OFFSET is then added to
// each of them, and OFFSET times the sum of x must be subtracted.
#if defined(__AVX512VNNI__)
enum { OFFSET_INT8 = 128, OFFSET_INT4 = 8 };
INLINE ivec dot_int8(ivec sum, ivec w, int32_t x) {
    return (ivec) _mm512_dpbusd_epi32((__m512i) sum, (__m512i) (w ^ (int32_t) 0x80808080), _mm512_set1_epi32(x));
}
INLINE ivec dot_int4(ivec sum, ivec w, int32_t x) {
    return (ivec) _mm512_dpbusd_epi32((__m512i) sum, (__m512i) w, _mm512_set1_epi32(x));
}
#elif defined(__AVX2__) && !defined(__AVX512F__)
enum { OFFSET_INT8 = 0, OFFSET_INT4 = 8 };
INLINE ivec dot_int8(ivec sum, ivec w, int32_t x) {  // |w| * (x with w's sign): two products of 127 fit into 16 bits
    __m256i signed_x = _mm256_sign_epi8(_mm256_set1_epi32(x), (__m256i) w);
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8((__m256i) w), signed_x);
    return sum + (ivec) _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
INLINE ivec dot_int4(ivec sum, ivec w, int32_t x) {
    __m256i pairs = _mm256_maddubs_epi16((__m256i) w, _mm256_set1_epi32(x));
    return sum + (ivec) _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#else
enum { OFFSET_INT8 = 0, OFFSET_INT4 = 8 };
INLINE ivec dot_int8(ivec sum, ivec w, int32_t x) {
    for (int j = 0; j < 4; j++) sum += (w << (24 - 8 * j) >> 24) * (x << (24 - 8 * j) >> 24);
    return sum;
}
INLINE ivec dot_int4(ivec sum, ivec w, int32_t x) { return dot_int8(sum, w, x); }
#endif

INLINE int32_t load_4_bytes(const int8_t *bytes) {
    int32_t word;
    memcpy(&word, bytes, 4);
    return word;
}

enum { VECS_PER_TILE = TILE_COLUMNS / LANES, MAX_ROWS_IN_REGISTERS = LANES / 2 };
enum { PREFETCH_BYTES = 4096, PREFETCH_SCALE_BYTES = 1024 };  // this far ahead of their use

// Int4 weights of LANES columns, eight inputs each, as bytes from 0 to 15: even and odd inputs.  Adding 8 to four bits
// in two's complement flips the highest bit.
INLINE ivec even_int4(ivec w) { return (w ^ (int32_t) 0x88888888) & 0x0f0f0f0f; }
INLINE ivec odd_int4(ivec w) { return (w ^ (int32_t) 0x88888888) >> 4 & 0x0f0f0f0f; }

// sum + the products of LANES columns' weights with four inputs, or eight if they are int4.
INLINE ivec add_int8(ivec sum, ivec w, const int8_t *x) { return dot_int8(sum, w, load_4_bytes(x)); }
INLINE ivec add_int4(ivec sum, ivec even, ivec odd, const int8_t *x) {
    return dot_int4(dot_int4(sum, even, load_4_bytes(x)), odd, load_4_bytes(x + 4));
}

// One tile of 16 columns for `rows` rows of x.  Called with constant rows and kind, so that the loops unroll.
INLINE void q_matmul_tile(float *out, ptrdiff_t out_stride, const q8_row *x, const matrix *w, ptrdiff_t tile, int I,
                          int rows, int kind) {
    const char *values = (const char *) w->values + tile * TILE_COLUMNS * I / (kind == INT4 ? 2 : 1);
    int group = w->group;
    ptrdiff_t scales = tile * TILE_COLUMNS * (I / group);
    int32_t offset = kind == INT4 ? OFFSET_INT4 : OFFSET_INT8;
    vec total[MAX_ROWS_IN_REGISTERS][VECS_PER_TILE] = {{{0}}};
    const char *scale_line = (const char *) w->scales + scales * 2;
    for (int g = 0; g < I / group; g++) {
        __builtin_prefetch(scale_line + g * TILE_COLUMNS * 2 + PREFETCH_SCALE_BYTES);
        vec part[MAX_ROWS_IN_REGISTERS][VECS_PER_TILE] = {{{0}}};
        for (int h = g * group / Q8_GROUP; h < (g + 1) * group / Q8_GROUP; h++) {
            ivec sum[MAX_ROWS_IN_REGISTERS][VECS_PER_TILE];
            for (int r = 0; r < rows; r++)
                for (int p = 0; p < VECS_PER_TILE; p++) sum[r][p] = -offset * x[r].sums[h] - (ivec) {0};
            #pragma GCC unroll 8
            for (int i = 0; i < Q8_GROUP; i += kind == INT4 ? 8 : 4, values += 64) {
                __builtin_prefetch(values + PREFETCH_BYTES);
                #pragma GCC unroll 4
                for (int p = 0; p < VECS_PER_TILE; p++) {
                    ivec v = *(const ivec *) (values + 64 / VECS_PER_TILE * p), even = even_int4(v), odd = odd_int4(v);
                    #pragma GCC unroll 8
                    for (int r = 0; r < rows; r++)
                        if (kind == INT4) sum[r][p] = add_int4(sum[r][p], even, odd, x[r].even_odd + h * Q8_GROUP + i);
                        else sum[r][p] = add_int8(sum[r][p], v, x[r].values + h * Q8_GROUP + i);
                }
            }
            for (int r = 0; r < rows; r++)
                for (int p = 0; p < VECS_PER_TILE; p++)
                    part[r][p] += __builtin_convertvector(sum[r][p], vec) * x[r].scales[h];
        }
        for (int p = 0; p < VECS_PER_TILE; p++) {
            vec scale = load_as_f32(w->scales, scales + g * TILE_COLUMNS + p * LANES, w->scale_kind);
            for (int r = 0; r < rows; r++) total[r][p] += part[r][p] * scale;
        }
    }
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < VECS_PER_TILE; p++) store(out + r * out_stride + p * LANES, total[r][p]);
}

INLINE void q_matmul_rows(float *out, ptrdiff_t out_stride, const q8_row *x, const matrix *w, ptrdiff_t tile, int I,
                          int rows, int kind) {
    for (; rows >= MAX_ROWS_IN_REGISTERS; rows -= MAX_ROWS_IN_REGISTERS) {
        q_matmul_tile(out, out_stride, x, w, tile, I, MAX_ROWS_IN_REGISTERS, kind);
        out += MAX_ROWS_IN_REGISTERS * out_stride, x += MAX_ROWS_IN_REGISTERS;
    }
    for (; rows >= 1; rows -= 1, out += out_stride, x += 1) q_matmul_tile(out, out_stride, x, w, tile, I, 1, kind);
}

typedef struct {
    int begin, end;
} range;

// A product with a matrix that is read once: out (N, O) = x (N, I) times w (I, O) of `expert`.
typedef struct {
    float *out;
    const float *x;
    const q8_row *x_q8;  // (N): x as integers, if w is quantized
    const matrix *w;
    int expert, N, I, O;
} matvec;

// A range of outputs, in full tiles.  Inlined, so that N = 1 is a constant in decode.c.
INLINE void q_matmul_range(const matvec *p, range outputs) {
    for (int t = outputs.begin / TILE_COLUMNS; t < outputs.end / TILE_COLUMNS; t++) {
        ptrdiff_t tile = (ptrdiff_t) p->expert * (p->O / TILE_COLUMNS) + t;  // counts over all experts
        float *out = p->out + (size_t) t * TILE_COLUMNS;
        if (p->w->kind == INT4) q_matmul_rows(out, p->O, p->x_q8, p->w, tile, p->I, p->N, INT4);
        else q_matmul_rows(out, p->O, p->x_q8, p->w, tile, p->I, p->N, INT8);
    }
}
