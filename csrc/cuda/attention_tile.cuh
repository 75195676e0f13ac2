// Shared by the float32 attention kernels: tiles of rows in shared memory, and products of their rows.
//
// A tile (rows, pitch) holds rows of d elements, padded with zeros to a multiple of 32.  The pitch is 4 more than that,
// so that eight rows begin in different banks.  A block owns rows of one side, queries or keys, and streams the rows of
// the other, 32 at a time.  Its 128 threads are arranged 16 by 8.  Eight neighbouring lanes x = 0 ... 7 share R rows,
// threadIdx.x / 8 and every 16th from there on; of their scores (R, 32) lane x has columns x, x + 8, ..., of their
// outputs (R, d) channels 4 x to 4 x + 3 of each 32:
//
//              scores: 32 streamed rows               outputs: d channels
//     row y    [ 0 1 2 ... 7 | 0 1 2 ... 7 | ... ]    [ 0 0 0 0 1 1 1 1 ... 7 7 7 7 | 0 0 0 0 ... ]   (x of the owner)
//
// For the second product, lanes exchange scores or weights through a tile (R, 32) in shared memory.
#pragma once

#include "attention_shape.cuh"
#include "vector.cuh"

enum { THREADS = 128, STREAMED = 32, SCORES_PITCH = STREAMED + 4 };

// Load `rows` rows of d elements as floats.  row(r): pointer to row r, or null for zeros.  A warp copies a row.
template <class Row> __device__ void load_tile(float *tile, int rows, int d, int pitch, Row row) {
    for (int r = threadIdx.x / 32; r < rows; r += THREADS / 32) {
        auto from = row(r);
        for (int i = threadIdx.x % 32; i < pitch - 4; i += 32)
            tile[r * pitch + i] = from && i < d ? to_float(from[i]) : 0.0f;
    }
}

__device__ inline float dot(float4 a, float4 b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }

// Reductions over the 8 lanes that share rows.
__device__ inline float max_over_8_lanes(float x) {
    for (int bit = 4; bit > 0; bit /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, bit));
    return x;
}
__device__ inline float sum_over_8_lanes(float x) {
    for (int bit = 4; bit > 0; bit /= 2) x += __shfl_xor_sync(0xffffffff, x, bit);
    return x;
}

__device__ inline int own_row(int r) { return threadIdx.x / 8 + 16 * r; }
__device__ inline int streamed_row(int j) { return threadIdx.x % 8 + 8 * j; }

// out (R, 32) += a b^T, of own rows of a (16 R, d) and b (32, d)
template <int R>
__device__ void add_row_products(float (&out)[R][4], const float *a, const float *b, int d, int pitch) {
    for (int i = 0; i < d; i += 4) {
        float4 b_row[4];
        #pragma unroll
        for (int j = 0; j < 4; j++) b_row[j] = load_float4(b + streamed_row(j) * pitch + i);
        #pragma unroll
        for (int r = 0; r < R; r++) {
            float4 a_row = load_float4(a + own_row(r) * pitch + i);
            #pragma unroll
            for (int j = 0; j < 4; j++) out[r][j] += dot(a_row, b_row[j]);
        }
    }
}

// out (R, d) += w b, of own rows of w (16 R, 32) and b (32, d)
template <int R>
__device__ void add_weighted_rows(float (&out)[R][4][4], const float *w, const float *b, int d, int pitch) {
    for (int j = 0; j < STREAMED; j += 4) {
        float4 weight[R];
        #pragma unroll
        for (int r = 0; r < R; r++) weight[r] = load_float4(w + own_row(r) * SCORES_PITCH + j);
        #pragma unroll
        for (int p = 0; p < 4; p++) {
            if (32 * p >= d) break;
            const float *row = b + j * pitch + 32 * p + threadIdx.x % 8 * 4;
            float4 b0 = load_float4(row), b1 = load_float4(row + pitch), b2 = load_float4(row + 2 * pitch),
                   b3 = load_float4(row + 3 * pitch);
            #pragma unroll
            for (int r = 0; r < R; r++) {
                out[r][p][0] += dot(weight[r], make_float4(b0.x, b1.x, b2.x, b3.x));
                out[r][p][1] += dot(weight[r], make_float4(b0.y, b1.y, b2.y, b3.y));
                out[r][p][2] += dot(weight[r], make_float4(b0.z, b1.z, b2.z, b3.z));
                out[r][p][3] += dot(weight[r], make_float4(b0.w, b1.w, b2.w, b3.w));
            }
        }
    }
}
