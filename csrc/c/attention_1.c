// Attention exactly as in the formula, equation (gqa): one query, one head, and all its scores in a row.
//
// Every query fetches every key and value again, and its scores fill an array with one element per key.
#include "threads.h"

#include <math.h>

#include "attention_shape.h"
#include "memory.h"

// Query q (d) sees n keys and values, with rows `step` elements apart  ->  out (d).  P (n) holds its scores, then its
// weights.
static void attend_query(float *out, float *P, const float *q, const float *k, const float *v, size_t step, int n,
                         int d) {
    float max = -INFINITY;
    for (int s = 0; s < n; s++) {
        double score = 0.0;
        for (int i = 0; i < d; i++) score += (double) q[i] * k[s * step + i];
        P[s] = (float) (score / sqrt(d));
        max = fmaxf(max, P[s]);
    }
    double sum = 0.0;
    for (int s = 0; s < n; s++) sum += P[s] = expf(P[s] - max);
    for (int i = 0; i < d; i++) {
        double y = 0.0;
        for (int s = 0; s < n; s++) y += (double) P[s] * v[s * step + i];
        out[i] = (float) (y / sum);
    }
}

// q (B, T, H, d), k and v (B, S, K, d)  ->  out (B, T, H, d)
void grouped_query_attention_1(float *out, const float *q, const float *k, const float *v, int causal, int chunk,
                               int64_t kv_start, int B, int T, int S, int H, int K, int d) {
    attention_shape a = {causal, chunk, kv_start, B, T, S, H, K, d};
    size_t bytes = sizeof(float) * (size_t) S;
    arena memory = allocate(bytes * max_threads());
    if (!memory.base) return;
    #pragma omp parallel for collapse(3)
    for (int b = 0; b < B; b++) {
        for (int t = 0; t < T; t++) {
            for (int h = 0; h < H; h++) {
                arena part = arena_part(&memory, bytes, thread_index());
                int begin = first_visible(&a, t), key_head = h / group_size(&a);
                size_t query = query_offset(&a, b, t, 0, 0) + (size_t) h * d, key = key_offset(&a, b, begin, key_head);
                attend_query(out + query, carve_floats(&part, S), q + query, k + key, v + key, (size_t) K * d,
                             end_visible(&a, t) - begin, d);
            }
        }
    }
    release(&memory);
}
