// What training minimises, equation (cross-entropy).
#include "simd.h"

#include <math.h>

// logits (N, V), targets (N) below V, negative ones ignored  ->  out (N), the loss of each row, 0 where ignored
void cross_entropy(double *out, const float *logits, const int64_t *targets, int N, int V) {
    #pragma omp parallel for if ((size_t) N * V > SMALL)
    for (int n = 0; n < N; n++) {
        out[n] = 0.0;
        if (targets[n] < 0) continue;
        const float *x = logits + (size_t) n * V;
        int whole = V - V % LANES;
        f32x16 most = load_some(x + whole, V - whole, -__builtin_inff());
        for (int i = 0; i < whole; i += LANES) most = max_of(most, load16(x + i));
        float best = max16(most);
        f32x16 last = exp16(load_some(x + whole, V - whole, -__builtin_inff()) - best);
        double sums[LANES], sum = 0.0;
        for (int l = 0; l < LANES; l++) sums[l] = l < V - whole ? last[l] : 0.0;
        for (int i = 0; i < whole; i += LANES) {
            f32x16 e = exp16(load16(x + i) - best);
            for (int l = 0; l < LANES; l++) sums[l] += e[l];
        }
        for (int l = 0; l < LANES; l++) sum += sums[l];
        out[n] = log(sum) - ((double) x[targets[n]] - best);
    }
}
