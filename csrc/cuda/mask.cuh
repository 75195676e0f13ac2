// Which keys a query sees, equations (causal) and (chunked): an interval, without gaps.
//
// The S keys are at positions kv_start, kv_start + 1, ...; the T queries are at the last T of them.  Positions need 64
// bits, indices among the S keys do not.  chunk: 0 for none.
#pragma once

// The first key that query t sees.
__device__ inline int key_begin(int t, int causal, int chunk, long long kv_start, int T, int S) {
    if (!causal || !chunk) return 0;
    long long position = kv_start + S - T + t, begin = position / chunk * chunk - kv_start;
    return begin > 0 ? (int) begin : 0;
}

// One past the last.
__device__ inline int key_end(int t, int causal, int T, int S) { return causal ? S - T + t + 1 : S; }

// The same from the other side: the first query that sees key s, and one past the last.
__device__ inline int query_begin(int s, int causal, int T, int S) { return causal ? max(0, s - (S - T)) : 0; }
__device__ inline int query_end(int s, int causal, int chunk, long long kv_start, int T, int S) {
    if (!causal || !chunk) return T;
    long long end = ((kv_start + s) / chunk + 1) * chunk - kv_start - (S - T);
    return end < 0 ? 0 : (int) min((long long) T, end);
}
