// Attention, equation (gqa), with an online softmax (attend.h): a T x S matrix never stands in memory.
#include "threads.h"

#include "attend.h"

// The queries t to t + n - 1 of one sequence, for all heads that read key head `head`.
static void block(float *out, const float *q, const past *k, const past *v, reader *r, int causal, int low, int b, int t,
                  int n, int head, int T, int S, int H, int K, int d) {
    int G = H / K, rows = n * G;
    float root = 1.0f / sqrtf((float) d);
    for (int i = 0; i < rows; i++) {
        const float *query = q + (((size_t) b * T + t + i / G) * H + (size_t) head * G + i % G) * d;
        for (int c = 0; c < d; c++) r->q[(size_t) i * d + c] = query[c] * root;
        r->seen[i] = causal ? S - T + t + i / G + 1 : S;
    }
    reader_begins(r, rows, d);
    read_keys(r, rows, k, v, b, low, r->seen[rows - 1], head, K, d);
    for (int i = 0; i < rows; i++) {
        float *y = out + (((size_t) b * T + t + i / G) * H + (size_t) head * G + i % G) * d;
        for (int c = 0; c < d; c++) y[c] = r->sum[(size_t) i * wide(d) + c] / r->total[i];
    }
}

// q (B, T, H, d), k and v (B, S, K, d) in any form of a cache  ->  out (B, T, H, d)
//
// The keys stand at S positions from `first` on, the queries at the last T of them.  chunk: 0 where there is none.
void grouped_query_attention(float *out, const float *q, const past *k, const past *v, int causal, int chunk,
                             int64_t first, int B, int T, int S, int H, int K, int d) {
    int G = H / K, most = QUERIES / G > 1 ? QUERIES / G : 1;
    int64_t begin = first + S - T;                  // the first query's position
    // A block ends with its chunk, so that all of its queries begin to read at the same key.
    int lead = causal && chunk ? (int) (chunk - begin % chunk) : T;
    if (lead > T) lead = T;
    int per_lead = (lead + most - 1) / most, per_chunk = chunk ? (chunk + most - 1) / most : 1;
    int blocks = per_lead + (lead < T ? (T - lead + chunk - 1) / chunk * per_chunk : 0);
    size_t bytes = reader_bytes(most * G, d);
    arena memory = allocate(bytes * most_threads());
    if (!memory.base) return;
    taken cpus = {0};
    #pragma omp parallel if ((size_t) B * T * S * H * d > SMALL)
    {
        spread(&cpus);
        arena part = arena_part(&memory, bytes, thread());
        reader r = reader_in(&part, most * G, d);
        #pragma omp for schedule(dynamic) collapse(3)
        for (int b = 0; b < B; b++) {
            for (int i = blocks - 1; i >= 0; i--) {             // the longest first: the short ones fill the gaps
                for (int head = 0; head < K; head++) {
                    int t = i < per_lead ? i * most : lead + (i - per_lead) / per_chunk * chunk + (i - per_lead) % per_chunk * most;
                    int end = i < per_lead ? lead : lead + ((i - per_lead) / per_chunk + 1) * chunk;
                    if (end > T) end = T;
                    int n = end - t < most ? end - t : most;
                    if (n <= 0) continue;
                    int64_t low = causal && chunk ? (begin + t) / chunk * chunk - first : 0;
                    block(out, q, k, v, &r, causal, low > 0 ? (int) low : 0, b, t, n, head, T, S, H, K, d);
                }
            }
        }
    }
    release(&memory);
}
