// Attention as the formula says it, equation (gqa): one query, one head, and all its scores in a row.
//
// Every query fetches every key and value again, and its scores fill an array as long as the past.
#include "threads.h"

#include <math.h>

#include "memory.h"
#include "simd.h"

// q (B, T, H, d), k and v (B, S, K, d)  ->  out (B, T, H, d)
void grouped_query_attention_1(float *out, const float *q, const float *k, const float *v, int causal, int chunk,
                               int64_t first, int B, int T, int S, int H, int K, int d) {
    size_t bytes = sizeof(float) * (size_t) S;
    arena memory = allocate(bytes * most_threads());
    if (!memory.base) return;
    #pragma omp parallel for collapse(3)
    for (int b = 0; b < B; b++) {
        for (int t = 0; t < T; t++) {
            for (int h = 0; h < H; h++) {
                const float *query = q + (((size_t) b * T + t) * H + h) * d;
                size_t head = ((size_t) b * S * K + (size_t) h / (H / K)) * d, step = (size_t) K * d;
                int64_t position = first + S - T + t;
                int low = causal && chunk && position / chunk * chunk > first ? (int) (position / chunk * chunk - first) : 0;
                int high = causal ? S - T + t + 1 : S;
                float *weight = (float *) (void *) (memory.base + bytes * thread()), most = -INFINITY;
                for (int s = low; s < high; s++) {
                    double score = 0.0;
                    for (int i = 0; i < d; i++) score += (double) query[i] * k[head + s * step + i];
                    weight[s - low] = (float) (score / sqrt(d));
                    most = fmaxf(most, weight[s - low]);
                }
                double sum = 0.0;
                for (int s = low; s < high; s++) sum += weight[s - low] = expf(weight[s - low] - most);
                for (int i = 0; i < d; i++) {
                    double y = 0.0;
                    for (int s = low; s < high; s++) y += (double) weight[s - low] * v[head + s * step + i];
                    out[(((size_t) b * T + t) * H + h) * d + i] = (float) (y / sum);
                }
            }
        }
    }
    release(&memory);
}
