// A matrix-vector product with 16 columns of 8- or 4-bit weights, of up to MAX_ROWS vectors at a time: memory is the
// limit.  The plain form:
//
//     for (r = 0; r < rows; r++)
//         for (o = 0; o < O; o++) {
//             for (i = 0, sum = 0; i < I; i++) sum += x[r][i] * integer[i][o] * scale[i / group][o];
//             out[r][o] = sum * gate + bias[o];
//         }
//
// A tile of 16 columns (tinyscout/reference/quantize.py) is one run of words of four bytes: first one word of each
// column, then the next word of each, and so on.  A word holds 4 inputs of a column in 8 bits, or 8 inputs in 4 bits,
// the first in the lowest bits:
//
//                 column 0          column 1               column 15
//     word row 0  [i3 i2 i1 i0]     [i3 i2 i1 i0]    ...   [i3 i2 i1 i0]     (of 8 bits; of 4 bits: i7 ... i0)
//     word row 1  [i7 i6 i5 i4]     [i7 i6 i5 i4]    ...   [i7 i6 i5 i4]     (of 8 bits; of 4 bits: i15 ... i8)
//
// A thread loads four words of a row, a warp eight rows at a time.  Scales are (I / group, 16) for each tile.
//
// For memory to stay the limit, a weight must be converted to float in two instructions, and conversion instructions
// are slower than that.  But a float from 2^23 to 2^24 has its integer in its last 23 bits: put the weight there, and
// subtract.  For the byte q = -3, to which 128 is added first, since the integer there must not be negative:
//
//     0x4b000000 | (-3 + 128) = 2^23 + 125 as a float,   2^23 + 125 - (2^23 + 128) = -3
#pragma once

#include "matvec.cuh"
#include "vector.cuh"

enum { Q_THREADS = 128, COLUMNS = 16 };

constexpr unsigned FLOAT_2_POW_23_BITS = 0x4b000000;  // the bits of 2^23 as a float
constexpr float FLOAT_2_POW_23 = 8388608.0f;
constexpr unsigned BYTE_SIGNS = 0x80808080, NIBBLE_SIGNS = 0x88888888;  // flipping a sign bit adds 128, or 8
// For __byte_perm: bytes 3, 1, 0 of the second word, and byte 0 of the first.
constexpr unsigned LOWEST_BYTE_FROM_FIRST = 0x7540;

// Byte j of a word, to whose bytes 128 was added, as a float.
__device__ inline float int8_to_float(unsigned word, int j) {
    unsigned bits = __byte_perm(word, FLOAT_2_POW_23_BITS, LOWEST_BYTE_FROM_FIRST + j);
    return __uint_as_float(bits) - (FLOAT_2_POW_23 + 128.0f);
}

// Four bits of a word, to which 8 was added, from bit 4 j on (j at most 3), as a float that is 16^j times too large.
__device__ inline float int4_to_float(unsigned word, int j) {
    float unit = 1 << 4 * j;
    return __uint_as_float(word & 15u << 4 * j | FLOAT_2_POW_23_BITS) - (FLOAT_2_POW_23 + 8.0f * unit);
}

// The sum of the products of a word's 4 or 8 weights with x, as load_inputs loads it.
template <int BITS> __device__ float dot_word(unsigned word, const float *x) {
    float sum = 0.0f;
    #pragma unroll
    for (int j = 0; j < 4; j++) {
        if (BITS == 8) {
            sum += int8_to_float(word ^ BYTE_SIGNS, j) * x[j];
        } else {
            unsigned low = word ^ NIBBLE_SIGNS, high = (word ^ NIBBLE_SIGNS) >> 16;
            sum += int4_to_float(low, j) * x[j] + int4_to_float(high, j) * x[4 + j];
        }
    }
    return sum;
}

// The inputs of a word.  Those of 4-bit weights are divided by 1, 16, 256, 4096 in turn, to undo the factor of
// int4_to_float.
template <int BITS> __device__ void load_inputs(float (&inputs)[32 / BITS], const float *x) {
    #pragma unroll
    for (int j = 0; j < 32 / BITS; j += 4) {
        float4 v = load_float4(x + j);
        float shift = BITS == 4 ? 0.0625f : 1.0f;
        inputs[j] = v.x, inputs[j + 1] = v.y * shift;
        inputs[j + 2] = v.z * (shift * shift), inputs[j + 3] = v.w * (shift * shift * shift);
    }
}

// sum (MAX_ROWS, 4) = this thread's share of x (rows, I) times four columns of a tile, from `column` on
template <int BITS, int MAX_ROWS, class Scale>
__device__ void sum_own_words(float (&sum)[MAX_ROWS][4], const float *x, Quantized<BITS, Scale> w, MatvecSize size,
                              int column) {
    constexpr int PER_WORD = 32 / BITS;  // inputs
    const uint4 *words = (const uint4 *) (w.values + (long long) blockIdx.x * COLUMNS * size.I * BITS / 8);
    const Scale *scales = w.scales + (long long) blockIdx.x * COLUMNS * (size.I / w.group) + column;
    #pragma unroll 4
    for (int at = threadIdx.x; at < size.I / PER_WORD * 4; at += Q_THREADS) {
        int i = at / 4 * PER_WORD;
        uint4 word = __ldg(words + at);
        float4 scale = load_float4(scales + i / w.group * COLUMNS);
        #pragma unroll
        for (int r = 0; r < MAX_ROWS; r++) {
            if (r >= size.rows) break;
            float inputs[PER_WORD];
            load_inputs<BITS>(inputs, x + (size_t) r * size.I + i);
            sum[r][0] += scale.x * dot_word<BITS>(word.x, inputs);
            sum[r][1] += scale.y * dot_word<BITS>(word.y, inputs);
            sum[r][2] += scale.z * dot_word<BITS>(word.z, inputs);
            sum[r][3] += scale.w * dot_word<BITS>(word.w, inputs);
        }
    }
}

// x (rows, I), w (I, O), times `gate`, plus bias (O) or null  ->  out (rows, O), columns 16 * blockIdx.x on
template <int MAX_ROWS, int BITS, class Scale>
__device__ void q_matvec_tile(float *out, const float *x, Quantized<BITS, Scale> w, const float *bias, float gate,
                              MatvecSize size) {
    __shared__ float warp_sums[Q_THREADS / 32][MAX_ROWS][COLUMNS];
    int column = threadIdx.x % 4 * 4;  // of the four that this thread has
    float sum[MAX_ROWS][4] = {};
    sum_own_words(sum, x, w, size, column);
    #pragma unroll
    for (int r = 0; r < MAX_ROWS; r++)
        #pragma unroll
        for (int c = 0; c < 4; c++) {  // lanes l, l + 4, ... have the same columns
            for (int bit = 4; bit < 32; bit *= 2) sum[r][c] += __shfl_xor_sync(0xffffffff, sum[r][c], bit);
            if (threadIdx.x % 32 < 4) warp_sums[threadIdx.x / 32][r][column + c] = sum[r][c];
        }
    __syncthreads();
    int r = threadIdx.x / COLUMNS, c = threadIdx.x % COLUMNS, o = blockIdx.x * COLUMNS + c;
    if (r >= size.rows) return;
    float total = 0.0f;
    for (int warp = 0; warp < Q_THREADS / 32; warp++) total += warp_sums[warp][r][c];
    out[(size_t) r * size.O + o] = total * gate + (bias ? bias[o] : 0.0f);
}
