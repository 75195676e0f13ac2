// Activations and their gradients, equations (sigmoid), (swiglu), (gelu) and the same with -backward: one thread owns four
// numbers that stand side by side.
#include "vector.cuh"

__device__ inline float sigmoid_of(float x) {
    float e = expf(-fabsf(x));                                      // never overflows
    return (x >= 0 ? 1.0f : e) / (1.0f + e);
}

// x (N, D)  ->  out (N, D)
extern "C" __global__ void sigmoid(float *out, const float *x, int N, int D) {
    for_each([](float x) { return sigmoid_of(x); }, (size_t) N * D, out, x);
}

// dy and x (N, D)  ->  out (N, D)
extern "C" __global__ void sigmoid_backward(float *out, const float *dy, const float *x, int N, int D) {
    for_each([](float dy, float x) { float y = sigmoid_of(x); return dy * y * (1 - y); }, (size_t) N * D, out, dy, x);
}

// gate and up (N, F)  ->  out (N, F)
extern "C" __global__ void swiglu(float *out, const float *gate, const float *up, int N, int F) {
    for_each([](float gate, float up) { return gate * sigmoid_of(gate) * up; }, (size_t) N * F, out, gate, up);
}

// dy, gate and up (N, F)  ->  out_gate and out_up (N, F).  The second time they are read, they are still in the cache.
extern "C" __global__ void swiglu_backward(float *out_gate, float *out_up, const float *dy, const float *gate,
                                           const float *up, int N, int F) {
    for_each([](float dy, float gate, float up) {
        float opened = sigmoid_of(gate);
        return dy * up * opened * (1 + gate * (1 - opened));
    }, (size_t) N * F, out_gate, dy, gate, up);
    for_each([](float dy, float gate) { return dy * gate * sigmoid_of(gate); }, (size_t) N * F, out_up, dy, gate);
}

// The chance that a normal variable is smaller than x.  Beyond 9 sqrt(2) nothing is left, and as little as there, as the
// reference has it, so that both agree to the last digits.
__device__ inline float chance_below(float x) { return x < -12.7279221f ? 2.06851587e-37f : normcdff(x); }

// x (N, D)  ->  out (N, D)
extern "C" __global__ void gelu(float *out, const float *x, int N, int D) {
    for_each([](float x) { return x * chance_below(x); }, (size_t) N * D, out, x);
}

// dy and x (N, D)  ->  out (N, D)
extern "C" __global__ void gelu_backward(float *out, const float *dy, const float *x, int N, int D) {
    for_each([](float dy, float x) {
        float density = expf(x * x / -2) * 0.398942280f;                // 1 / sqrt(2 pi) in the middle
        return dy * (chance_below(x) + x * density);
    }, (size_t) N * D, out, dy, x);
}
