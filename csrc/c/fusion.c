// Early fusion, equation (fuse).
#include "simd.h"

// x (T, D), mask (T) 0 or 1, features (number of ones in mask, D)  ->  out (T, D)
void fuse(float *out, const float *x, const uint8_t *mask, const float *features, int T, int D) {
    for (int t = 0; t < T; t++) {
        size_t row = (size_t) t * D;
        memcpy(out + row, mask[t] ? features : x + row, sizeof(float) * (size_t) D);
        if (mask[t]) features += D;
    }
}
