// The sizes of an attention, its mask, and the offsets of its rows in memory: one argument for every phase of a kernel.
//
// A block works for one key head.  A *row* n of a key head is a query of one of the G query heads that share it: query
// n / G of query head kv_head * G + n % G.  So a key in shared memory serves the T * G rows of its head.
#pragma once

#include "mask.cuh"

struct AttentionShape {
    int causal, chunk;
    long long kv_start;  // position of the first key
    int T, S, H, K, d;

    __device__ int G() const { return H / K; }
    __device__ int pitch() const { return (d + 31) / 32 * 32 + 4; }  // of a row in shared memory: attention_tile.cuh

    // The offset of row n of a key head in q, out and their gradients (B, T, H, d), in rows of d elements.
    __device__ size_t query_row(int b, int kv_head, int n) const {
        return ((size_t) b * T + n / G()) * H + kv_head * G() + n % G();
    }

    // The offset of key or value s of a key head in (B, S, K, d), in rows of d elements.
    __device__ size_t kv_row(int b, int kv_head, int s) const { return ((size_t) b * S + s) * K + kv_head; }

    // The first key that row n sees, and one past the last.
    __device__ int first_key(int n) const { return key_begin(n / G(), causal, chunk, kv_start, T, S); }
    __device__ int end_key(int n) const { return key_end(n / G(), causal, T, S); }

    // The first row that sees key s, and one past the last.
    __device__ int first_row(int s) const { return G() * query_begin(s, causal, T, S); }
    __device__ int end_row(int s) const { return G() * query_end(s, causal, chunk, kv_start, T, S); }
};

// The rows `begin` to begin + count - 1 of a key head, which a block owns, and the keys that any of them sees.
struct QueryRows {
    int b, kv_head, begin, count, key_begin, key_end;

    // The offset of row r of them in (B, T, H, d), in rows.
    __device__ size_t at(const AttentionShape &shape, int r) const { return shape.query_row(b, kv_head, begin + r); }

    // Row r, or the last one if r is past the end: such rows are computed and discarded.
    __device__ int clamp_row(int r) const { return begin + min(r, count - 1); }
};

// In a grid (blocks, K, B): MAX_ROWS rows for each block.  The blocks with late rows have the most work and come first.
template <int MAX_ROWS> __device__ QueryRows own_query_rows(const AttentionShape &shape) {
    int begin = (gridDim.x - 1 - blockIdx.x) * MAX_ROWS, count = min(MAX_ROWS, shape.T * shape.G() - begin);
    return {(int) blockIdx.z, (int) blockIdx.y, begin, count, shape.first_key(begin), shape.end_key(begin + count - 1)};
}
