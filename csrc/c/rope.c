// Rotary position embedding, equation (rope).
#include "simd.h"

// x (B, T, H, d), cos and sin (T, d/2)  ->  out (B, T, H, d)
void apply_rope(float *out, const float *x, const float *cos, const float *sin, int B, int T, int H, int d) {
    #pragma omp parallel for collapse(2) if ((size_t) B * T * H * d > PARALLEL_MIN)
    for (int b = 0; b < B; b++) {
        for (int t = 0; t < T; t++) {
            const float *cos_t = cos + (size_t) t * (d / 2), *sin_t = sin + (size_t) t * (d / 2);
            for (int h = 0; h < H; h++) {
                size_t head = (((size_t) b * T + t) * H + h) * d;
                for (int i = 0; i < d / 2; i++) {
                    float even = x[head + 2 * i], odd = x[head + 2 * i + 1];
                    out[head + 2 * i] = even * cos_t[i] - odd * sin_t[i];
                    out[head + 2 * i + 1] = even * sin_t[i] + odd * cos_t[i];
                }
            }
        }
    }
}
