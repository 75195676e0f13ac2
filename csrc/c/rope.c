// Rotary position embedding, equation (rope).
#include "simd.h"

enum { PAIRS = LANES / 2 };

// Eight pairs at once: with a and b of a pair exchanged, both lines of the rotation are the same two products.
static inline f32x16 turn(f32x16 x, f32x8 cos, f32x8 sin) {
    f32x16 exchanged = __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    f32x16 twice = __builtin_shufflevector(cos, cos, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    f32x16 signs = __builtin_shufflevector(-sin, sin, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    return x * twice + exchanged * signs;
}

// x (B, T, H, d), cos and sin (T, d/2)  ->  out (B, T, H, d)
void apply_rope(float *out, const float *x, const float *cos, const float *sin, int B, int T, int H, int d) {
    #pragma omp parallel for collapse(2) if ((size_t) B * T * H * d > SMALL)
    for (int b = 0; b < B; b++) {
        for (int t = 0; t < T; t++) {
            const float *cos_t = cos + (size_t) t * (d / 2), *sin_t = sin + (size_t) t * (d / 2);
            for (int h = 0; h < H; h++) {
                size_t head = (((size_t) b * T + t) * H + h) * d;
                int i = 0;
                for (; i + PAIRS <= d / 2; i += PAIRS)
                    store16(out + head + 2 * i, turn(load16(x + head + 2 * i), *(const f32x8 *) (cos_t + i),
                                                     *(const f32x8 *) (sin_t + i)));
                for (; i < d / 2; i++) {
                    float even = x[head + 2 * i], odd = x[head + 2 * i + 1];
                    out[head + 2 * i] = even * cos_t[i] - odd * sin_t[i];
                    out[head + 2 * i + 1] = even * sin_t[i] + odd * cos_t[i];
                }
            }
        }
    }
}
