// The sizes of an attention, the offsets of its rows in memory, and the keys that a query sees.
#pragma once

#include "simd.h"

// Keys are at S consecutive positions from `kv_start` on, the T queries at the last T of them.
typedef struct {
    int causal, chunk;     // chunk: 0 for none
    int64_t kv_start;      // position of the first key
    int B, T, S, H, K, d;  // sequences, queries, keys, query heads, key heads, channels
} attention_shape;

INLINE int group_size(const attention_shape *a) { return a->H / a->K; }  // G: query heads that share a key head
INLINE int64_t query_position(const attention_shape *a, int t) { return a->kv_start + a->S - a->T + t; }

// The offset in (B, T, H, d) of row i of the queries t, t + 1, ... of one sequence and key head, G heads each.
INLINE size_t query_offset(const attention_shape *a, int b, int t, int key_head, int i) {
    int G = group_size(a);
    return (((size_t) b * a->T + t + i / G) * a->H + (size_t) key_head * G + i % G) * a->d;
}
// The offset of key s in (B, S, K, d).
INLINE size_t key_offset(const attention_shape *a, int b, int s, int key_head) {
    return (((size_t) b * a->S + s) * a->K + key_head) * a->d;
}

// Query t sees the keys from first_visible(t) to end_visible(t) - 1.
INLINE int first_visible(const attention_shape *a, int t) {
    if (!a->causal || !a->chunk) return 0;
    int64_t begin = query_position(a, t) / a->chunk * a->chunk - a->kv_start;
    return begin > 0 ? (int) begin : 0;
}
INLINE int end_visible(const attention_shape *a, int t) { return a->causal ? a->S - a->T + t + 1 : a->S; }
