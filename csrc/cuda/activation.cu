// Activations, equations (sigmoid), (swiglu) and (gelu): one thread owns four numbers that stand side by side.
#include "vector.cuh"

__device__ inline float sigmoid_of(float x) {
    float e = expf(-fabsf(x));                                      // never overflows
    return (x >= 0 ? 1.0f : e) / (1.0f + e);
}

// x (N, D)  ->  out (N, D)
extern "C" __global__ void sigmoid(float *out, const float *x, int N, int D) {
    for_each([](float x) { return sigmoid_of(x); }, (size_t) N * D, out, x);
}

// gate and up (N, F)  ->  out (N, F)
extern "C" __global__ void swiglu(float *out, const float *gate, const float *up, int N, int F) {
    for_each([](float gate, float up) { return gate * sigmoid_of(gate) * up; }, (size_t) N * F, out, gate, up);
}

// The chance that a normal variable is smaller than x.  Beyond 9 sqrt(2) nothing is left, and as little as there, as the
// reference has it, so that both agree to the last digits.
__device__ inline float chance_below(float x) { return x < -12.7279221f ? 2.06851587e-37f : normcdff(x); }

// x (N, D)  ->  out (N, D)
extern "C" __global__ void gelu(float *out, const float *x, int N, int D) {
    for_each([](float x) { return x * chance_below(x); }, (size_t) N * D, out, x);
}
