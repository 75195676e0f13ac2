// Normalisation, equations (rms-norm) and (layer-norm): one block owns one row, and its threads take turns along it.
#include "vector.cuh"
#include "warp.cuh"

// The sum over x (D) of what `term` makes of each number.  A thread adds up what it meets, at most a few dozen numbers,
// and the block joins these sums pairwise: so no float drifts over 5120 terms.
template <int V, typename Term> __device__ float sum_over(const float *x, int D, Term term) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < D / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i);
        for (float number : v.at) sum += term(number);
    }
    return block_sum(sum);
}

template <int V> __device__ void rms_norm_row(float *out, const float *x, const float *weight, float eps, int D) {
    float scale = 1.0f / sqrtf(sum_over<V>(x, D, [](float v) { return v * v; }) / D + eps);
    for (int i = threadIdx.x; i < D / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i), w;
        if (weight) w = load<V>(weight, i);
        for (int k = 0; k < V; k++) v.at[k] *= weight ? scale * w.at[k] : scale;
        store<V>(out, i, v);
    }
}

// x (N, D), weight (D) or null  ->  out (N, D)
extern "C" __global__ void rms_norm(float *out, const float *x, const float *weight, float eps, int N, int D) {
    size_t row = (size_t) blockIdx.x * D;
    if (fours(D, out, x, weight)) rms_norm_row<4>(out + row, x + row, weight, eps, D);
    else rms_norm_row<1>(out + row, x + row, weight, eps, D);
}

template <int V> __device__ void layer_norm_row(float *out, const float *x, const float *weight, const float *bias,
                                                float eps, int D) {
    float middle = sum_over<V>(x, D, [](float v) { return v; }) / D;
    middle += sum_over<V>(x, D, [=](float v) { return v - middle; }) / D;         // what rounding had left over
    float squares = sum_over<V>(x, D, [=](float v) { return (v - middle) * (v - middle); });
    float scale = 1.0f / sqrtf(squares / D + eps);
    for (int i = threadIdx.x; i < D / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i), w = load<V>(weight, i), b = load<V>(bias, i);
        for (int k = 0; k < V; k++) v.at[k] = (v.at[k] - middle) * scale * w.at[k] + b.at[k];
        store<V>(out, i, v);
    }
}

// x (N, D), weight and bias (D)  ->  out (N, D)
extern "C" __global__ void layer_norm(float *out, const float *x, const float *weight, const float *bias, float eps,
                                      int N, int D) {
    size_t row = (size_t) blockIdx.x * D;
    if (fours(D, out, x, weight, bias)) layer_norm_row<4>(out + row, x + row, weight, bias, eps, D);
    else layer_norm_row<1>(out + row, x + row, weight, bias, eps, D);
}
