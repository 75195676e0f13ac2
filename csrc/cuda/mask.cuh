// Who may look at whom, equations (causal) and (chunked): a query sees a stretch of keys without gaps.
//
// The keys stand at S positions from `first` on, the queries at the last T of them; positions need 64 bits, places among
// the S keys do not.  chunk: 0 where there is none.
#pragma once

// The first key that query t sees.
__device__ inline int seen_from(int t, int causal, int chunk, long long first, int T, int S) {
    if (!causal || !chunk) return 0;
    long long position = first + S - T + t, begin = position / chunk * chunk - first;
    return begin > 0 ? (int) begin : 0;
}

// One past the last.
__device__ inline int seen_to(int t, int causal, int T, int S) { return causal ? S - T + t + 1 : S; }

// The same from the other side: the first query that sees key s, and one past the last.
__device__ inline int sees_from(int s, int causal, int T, int S) { return causal ? max(0, s - (S - T)) : 0; }
__device__ inline int sees_to(int s, int causal, int chunk, long long first, int T, int S) {
    if (!causal || !chunk) return T;
    long long end = ((first + s) / chunk + 1) * chunk - first - (S - T);
    return end < 0 ? 0 : (int) min((long long) T, end);
}
