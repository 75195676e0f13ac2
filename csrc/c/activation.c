// Activations, equation (swiglu).
#include "simd.h"

#include <math.h>

// gate and up (N, F)  ->  out (N, F)
void swiglu(float *out, const float *gate, const float *up, int N, int F) {
    #pragma omp parallel for if ((size_t) N * F > SMALL)
    for (int n = 0; n < N; n++) {
        for (size_t i = (size_t) n * F; i < (size_t) (n + 1) * F; i++) {
            out[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];         // expf may overflow: x / inf is the right 0
        }
    }
}
