// Attention exactly as in the formula, equation (gqa): one thread owns one query of one head.
//
// It reads the keys one by one and updates a running softmax, equation (online-softmax).  The weighted sum of values O
// is accumulated in global memory, in the output itself, so each key costs a pass over it; and neighbouring threads
// read elements that are far apart.
#include <math_constants.h>

#include "mask.cuh"

// q (B, T, H, d), k and v (B, S, K, d)  ->  out (B, T, H, d)
extern "C" __global__ void grouped_query_attention_1(float *out, const float *q, const float *k, const float *v,
                                                     int causal, int chunk, long long kv_start, int B, int T, int S,
                                                     int H, int K, int d) {
    long long row = (long long) blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= (long long) B * T * H) return;
    int h = row % H, t = row / H % T, b = row / H / T;
    const float *query = q + row * d;
    float *O = out + row * d;
    float m = -CUDART_INF_F, l = 0.0f;

    int end = key_end(t, causal, T, S);
    for (int s = key_begin(t, causal, chunk, kv_start, T, S); s < end; s++) {
        long long at = (((long long) b * S + s) * K + h / (H / K)) * d;
        float score = 0.0f;
        for (int i = 0; i < d; i++) score += query[i] * k[at + i];
        score /= sqrtf((float) d);
        float m_new = fmaxf(m, score), rescale = expf(m - m_new), p = expf(score - m_new);
        for (int i = 0; i < d; i++) O[i] = (l > 0.0f ? O[i] * rescale : 0.0f) + p * v[at + i];
        l = l * rescale + p;
        m = m_new;
    }
    for (int i = 0; i < d; i++) O[i] /= l;
}
