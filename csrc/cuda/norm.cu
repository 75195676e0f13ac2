// Normalisation, equations (rms-norm) and (layer-norm): one block owns one row, and its threads divide it.
#include "column_sums.cuh"
#include "vector.cuh"

// V elements of a row, or ones if there is no weight.
template <int V> __device__ Floats<V> load_or_ones(const float *p, int i) {
    Floats<V> v;
    if (p) return load<V>(p, i);
    for (float &number : v.at) number = 1.0f;
    return v;
}

// The sum over D of term(in[i], ...).  A thread adds up a few dozen elements at most, and the block adds these sums
// pairwise: so there is little drift over 5120 terms.
template <int V, typename Term, typename... In> __device__ float sum_over(int D, Term term, const In *...in) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < D / V; i += blockDim.x)
        [&](auto... v) {
            for (int k = 0; k < V; k++) sum += term(v.at[k]...);
        }(load_or_ones<V>(in, i)...);
    return block_sum(sum);
}

template <int V> __device__ void rms_norm_row(float *out, const float *x, const float *weight, float eps, int D) {
    float rstd = 1.0f / sqrtf(sum_over<V>(D, [](float v) { return v * v; }, x) / D + eps);
    for (int i = threadIdx.x; i < D / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i), w;
        if (weight) w = load<V>(weight, i);
        for (int k = 0; k < V; k++) v.at[k] *= weight ? rstd * w.at[k] : rstd;
        store<V>(out, i, v);
    }
}

// x (N, D), weight (D) or null  ->  out (N, D)
extern "C" __global__ void rms_norm(float *out, const float *x, const float *weight, float eps, int N, int D) {
    size_t row = (size_t) blockIdx.x * D;
    if (is_vec4_aligned(D, out, x, weight)) rms_norm_row<4>(out + row, x + row, weight, eps, D);
    else rms_norm_row<1>(out + row, x + row, weight, eps, D);
}

// The mean of a row, and one over the standard deviation of its elements.
template <int V> __device__ float mean_and_rstd(const float *x, float eps, int D, float &out_mean) {
    float mean = sum_over<V>(D, [](float v) { return v; }, x) / D;
    mean += sum_over<V>(D, [=](float v) { return v - mean; }, x) / D;  // the rounding error of the first sum
    float squares = sum_over<V>(D, [=](float v) { return (v - mean) * (v - mean); }, x);
    out_mean = mean;
    return 1.0f / sqrtf(squares / D + eps);
}

template <int V> __device__ void layer_norm_row(float *out, const float *x, const float *weight, const float *bias,
                                                float eps, int D) {
    float mean, rstd = mean_and_rstd<V>(x, eps, D, mean);
    for (int i = threadIdx.x; i < D / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i), w = load<V>(weight, i), b = load<V>(bias, i);
        for (int k = 0; k < V; k++) v.at[k] = (v.at[k] - mean) * rstd * w.at[k] + b.at[k];
        store<V>(out, i, v);
    }
}

// x (N, D), weight and bias (D)  ->  out (N, D)
extern "C" __global__ void layer_norm(float *out, const float *x, const float *weight, const float *bias, float eps,
                                      int N, int D) {
    size_t row = (size_t) blockIdx.x * D;
    if (is_vec4_aligned(D, out, x, weight, bias)) layer_norm_row<4>(out + row, x + row, weight, bias, eps, D);
    else layer_norm_row<1>(out + row, x + row, weight, bias, eps, D);
}

// dx of a row whose norm is xhat = (x - mean) * rstd, times a weight; g = dy * weight:
//
//     dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), without mean(g) unless the norm subtracts the mean
template <int V> __device__ void norm_backward_row(float *out, const float *dy, const float *x, const float *weight,
                                                   float mean, float rstd, bool subtracts_mean, int D) {
    float mean_g = 0.0f;
    if (subtracts_mean) mean_g = sum_over<V>(D, [](float d, float w) { return d * w; }, dy, weight) / D;
    auto g_xhat = [=](float d, float w, float v) { return (d * w - mean_g) * ((v - mean) * rstd); };
    float mean_g_xhat = sum_over<V>(D, g_xhat, dy, weight, x) / D;
    for (int i = threadIdx.x; i < D / V; i += blockDim.x) {
        Floats<V> d = load<V>(dy, i), w = load_or_ones<V>(weight, i), v = load<V>(x, i);
        for (int k = 0; k < V; k++)
            v.at[k] = rstd * (d.at[k] * w.at[k] - mean_g - (v.at[k] - mean) * rstd * mean_g_xhat);
        store<V>(out, i, v);
    }
}

template <int V> __device__ void rms_norm_backward_row(float *out, float *out_rstd, const float *dy, const float *x,
                                                       const float *weight, float eps, int D) {
    float rstd = 1.0f / sqrtf(sum_over<V>(D, [](float v) { return v * v; }, x) / D + eps);
    norm_backward_row<V>(out, dy, x, weight, 0.0f, rstd, false, D);
    if (threadIdx.x == 0) *out_rstd = rstd;
}

// dy and x (N, D), weight (D) or null  ->  out_x (N, D), out_rstd (N), equation (rms-norm-backward)
extern "C" __global__ void rms_norm_backward_rows(float *out_x, float *out_rstd, const float *dy, const float *x,
                                                  const float *weight, float eps, int N, int D) {
    size_t n = blockIdx.x, row = n * D;
    if (is_vec4_aligned(D, out_x, dy, x, weight))
        rms_norm_backward_row<4>(out_x + row, out_rstd + n, dy + row, x + row, weight, eps, D);
    else rms_norm_backward_row<1>(out_x + row, out_rstd + n, dy + row, x + row, weight, eps, D);
}

template <int V> __device__ void layer_norm_backward_row(float *out, float *out_mean, float *out_rstd, const float *dy,
                                                         const float *x, const float *weight, float eps, int D) {
    float mean, rstd = mean_and_rstd<V>(x, eps, D, mean);
    norm_backward_row<V>(out, dy, x, weight, mean, rstd, true, D);
    if (threadIdx.x == 0) *out_mean = mean, *out_rstd = rstd;
}

// dy and x (N, D), weight (D)  ->  out_x (N, D), out_mean and out_rstd (N), equation (layer-norm-backward)
extern "C" __global__ void layer_norm_backward_rows(float *out_x, float *out_mean, float *out_rstd, const float *dy,
                                                    const float *x, const float *weight, float eps, int N, int D) {
    size_t n = blockIdx.x, row = n * D;
    if (is_vec4_aligned(D, out_x, dy, x, weight))
        layer_norm_backward_row<4>(out_x + row, out_mean + n, out_rstd + n, dy + row, x + row, weight, eps, D);
    else layer_norm_backward_row<1>(out_x + row, out_mean + n, out_rstd + n, dy + row, x + row, weight, eps, D);
}

// The gradients of a channel's weight and bias, summed over all rows: one block owns 32 channels.
//
// dy and x (N, D), mean (N) or null, rstd (N)  ->  out_weight (D), out_bias (D) unless it is null
extern "C" __global__ void norm_backward_channels(float *out_weight, float *out_bias, const float *dy, const float *x,
                                                  const float *mean, const float *rstd, int N, int D) {
    int d = lane_column();
    bool is_inside = d < D;
    float weight = sum_over_rows(N, [&](int n) {
        size_t at = (size_t) n * D + d;
        return is_inside ? dy[at] * ((x[at] - (mean ? mean[n] : 0.0f)) * rstd[n]) : 0.0f;
    });
    if (is_inside && warp() == 0) out_weight[d] = weight;
    if (!out_bias) return;
    float bias = sum_over_rows(N, [&](int n) { return is_inside ? dy[(size_t) n * D + d] : 0.0f; });
    if (is_inside && warp() == 0) out_bias[d] = bias;
}
