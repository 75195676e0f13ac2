// Activations and their gradients, equations (sigmoid), (swiglu), (gelu) and the same with -backward: one thread owns
// four neighbouring elements.
#include "vector.cuh"

__device__ inline float sigmoid_of(float x) {
    float e = expf(-fabsf(x));  // never overflows
    return (x >= 0 ? 1.0f : e) / (1.0f + e);
}

// x (N, D)  ->  out (N, D)
extern "C" __global__ void sigmoid(float *out, const float *x, int N, int D) {
    map_elements([](float x) { return sigmoid_of(x); }, (size_t) N * D, out, x);
}

// dy and x (N, D)  ->  out (N, D)
extern "C" __global__ void sigmoid_backward(float *out, const float *dy, const float *x, int N, int D) {
    auto dx = [](float dy, float x) {
        float y = sigmoid_of(x);
        return dy * y * (1 - y);
    };
    map_elements(dx, (size_t) N * D, out, dy, x);
}

// gate and up (N, F)  ->  out (N, F)
extern "C" __global__ void swiglu(float *out, const float *gate, const float *up, int N, int F) {
    map_elements([](float gate, float up) { return gate * sigmoid_of(gate) * up; }, (size_t) N * F, out, gate, up);
}

// dy, gate and up (N, F)  ->  out_gate and out_up (N, F).  The inputs are read twice, the second time from the cache.
extern "C" __global__ void swiglu_backward(float *out_gate, float *out_up, const float *dy, const float *gate,
                                           const float *up, int N, int F) {
    auto d_gate = [](float dy, float gate, float up) {
        float s = sigmoid_of(gate);
        return dy * up * s * (1 + gate * (1 - s));
    };
    auto d_up = [](float dy, float gate) { return dy * gate * sigmoid_of(gate); };
    map_elements(d_gate, (size_t) N * F, out_gate, dy, gate, up);
    map_elements(d_up, (size_t) N * F, out_up, dy, gate);
}

// The probability that a standard normal variable is smaller than x.  Below -9 sqrt(2) it is constant, as in the
// reference, so that both agree to the last digit.
__device__ inline float normal_cdf(float x) { return x < -12.7279221f ? 2.06851587e-37f : normcdff(x); }

// x (N, D)  ->  out (N, D)
extern "C" __global__ void gelu(float *out, const float *x, int N, int D) {
    map_elements([](float x) { return x * normal_cdf(x); }, (size_t) N * D, out, x);
}

constexpr float INV_SQRT_2PI = 0.398942280f;

// dy and x (N, D)  ->  out (N, D)
extern "C" __global__ void gelu_backward(float *out, const float *dy, const float *x, int N, int D) {
    auto dx = [](float dy, float x) {
        float density = expf(x * x / -2) * INV_SQRT_2PI;
        return dy * (normal_cdf(x) + x * density);
    };
    map_elements(dx, (size_t) N * D, out, dy, x);
}
