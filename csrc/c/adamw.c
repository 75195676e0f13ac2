// One step of AdamW, equation (adamw).
#include "simd.h"

#include <math.h>

// w, g, m and v (N), step from 1  ->  out_w, out_m, out_v (N)
void adamw_step(float *restrict out_w, float *restrict out_m, float *restrict out_v, const float *w, const float *g,
                const float *m, const float *v, double step, double lr, double beta1, double beta2, double eps,
                double decay, int64_t N) {
    float decayed = (float) (1 - lr * decay), b1 = (float) beta1, b2 = (float) beta2, a1 = (float) (1 - beta1);
    float a2 = (float) (1 - beta2), eps_f32 = (float) eps;
    float corrected_lr = (float) (lr / (1 - pow(beta1, step))), v_correction = (float) (1 / (1 - pow(beta2, step)));
    #pragma omp parallel for simd if (N > PARALLEL_MIN)
    for (int64_t i = 0; i < N; i++) {
        out_m[i] = b1 * m[i] + a1 * g[i];
        out_v[i] = b2 * v[i] + a2 * (g[i] * g[i]);
        out_w[i] = decayed * w[i] - corrected_lr * out_m[i] / (sqrtf(out_v[i] * v_correction) + eps_f32);
    }
}
