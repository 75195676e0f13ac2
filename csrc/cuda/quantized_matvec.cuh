// Few rows times a tile of 16 columns in 8 or 4 bits (tinyscout/reference/quantize.py): memory sets the pace.
//
// The tile is one run of bytes.  A thread takes sixteen of them at a time, which are 4 inputs of 4 columns, or 8 of 4; a
// warp takes 512 in a row.  So that memory stays the limit, a weight must become a float in two instructions, and no
// instruction that converts is that fast.  But a float between 2^23 and 2^24 has its integer in its last bits: put the
// weight there, and subtract.
#pragma once

#include "bf16.cuh"

enum { BIT_THREADS = 128, COLUMNS = 16 };

__device__ inline float4 four(const float *p) { return *(const float4 *) p; }
__device__ inline float4 four(const bf16 *p) {
    ushort4 b = *(const ushort4 *) p;
    return make_float4(widened(b.x), widened(b.y), widened(b.z), widened(b.w));
}

// Byte j of a word whose bytes had 128 added, as a float.
__device__ inline float byte_of(unsigned word, int j) {
    return __uint_as_float(__byte_perm(word, 0x4b000000, 0x7540 + j)) - (8388608.0f + 128.0f);
}

// Four bits of a word that had 8 added, from bit 4 j on and j at most 3, as a float, 16^j times too large.
__device__ inline float bits_of(unsigned word, int j) {
    float unit = 1 << 4 * j;
    return __uint_as_float(word & 15u << 4 * j | 0x4b000000) - (8388608.0f + 8.0f * unit);
}

// The products of a word's 4 or 8 weights with x, added up.  x of 4-bit weights is divided by 1, 16, 256, 4096 in turns.
template <int BITS> __device__ float dot(unsigned word, const float *x) {
    float sum = 0.0f;
    #pragma unroll
    for (int j = 0; j < 4; j++) {
        if (BITS == 8) sum += byte_of(word ^ 0x80808080, j) * x[j];
        else sum += bits_of(word ^ 0x88888888, j) * x[j] + bits_of((word ^ 0x88888888) >> 16, j) * x[4 + j];
    }
    return sum;
}

// x (rows, I), rows up to ROWS, times columns 16 * blockIdx.x on, and times `gate`  ->  those columns of out (rows, O)
template <int BITS, int ROWS, class Scale>
__device__ void columns(float *out, const float *x, const unsigned char *values, const Scale *scales, const float *bias,
                        float gate, int rows, int I, int O, int group) {
    constexpr int EACH = 32 / BITS;                 // inputs in a word of four bytes
    int own = threadIdx.x % 4 * 4;                  // this thread's columns: four from here on
    const uint4 *bytes = (const uint4 *) (values + (long long) blockIdx.x * COLUMNS * I * BITS / 8);
    scales += (long long) blockIdx.x * COLUMNS * (I / group) + own;
    float total[ROWS][4] = {};
    #pragma unroll 4
    for (int at = threadIdx.x; at < I / EACH * 4; at += BIT_THREADS) {
        int i = at / 4 * EACH;
        uint4 w = __ldg(bytes + at);
        float4 scale = four(scales + i / group * COLUMNS);
        #pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (r >= rows) break;
            float of_x[EACH];
            #pragma unroll
            for (int j = 0; j < EACH; j += 4) {
                float4 v = four(x + (size_t) r * I + i + j);
                float shift = BITS == 4 ? 0.0625f : 1.0f;
                of_x[j] = v.x, of_x[j + 1] = v.y * shift, of_x[j + 2] = v.z * (shift * shift), of_x[j + 3] = v.w * (shift * shift * shift);
            }
            total[r][0] += scale.x * dot<BITS>(w.x, of_x), total[r][1] += scale.y * dot<BITS>(w.y, of_x);
            total[r][2] += scale.z * dot<BITS>(w.z, of_x), total[r][3] += scale.w * dot<BITS>(w.w, of_x);
        }
    }
    __shared__ float part[BIT_THREADS / 32][ROWS][COLUMNS];
    #pragma unroll
    for (int r = 0; r < ROWS; r++)
        #pragma unroll
        for (int c = 0; c < 4; c++) {
            for (int other = 4; other < 32; other *= 2) total[r][c] += __shfl_xor_sync(0xffffffff, total[r][c], other);
            if (threadIdx.x % 32 < 4) part[threadIdx.x / 32][r][own + c] = total[r][c];
        }
    __syncthreads();
    int r = threadIdx.x / COLUMNS, c = threadIdx.x % COLUMNS, o = blockIdx.x * COLUMNS + c;
    if (r >= rows) return;
    float sum = 0.0f;
    for (int warp = 0; warp < BIT_THREADS / 32; warp++) sum += part[warp][r][c];
    out[(size_t) r * O + o] = sum * gate + (bias ? bias[o] : 0.0f);
}
