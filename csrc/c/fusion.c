// Early fusion, equation (fuse).
#include "simd.h"

// x (T, D), places (T) one byte each, features as many rows of D as there are places  ->  out (T, D)
void fuse(float *out, const float *x, const uint8_t *places, const float *features, int T, int D) {
    for (int t = 0; t < T; t++) {
        size_t row = (size_t) t * D;
        memcpy(out + row, places[t] ? features : x + row, sizeof(float) * (size_t) D);
        if (places[t]) features += D;
    }
}
