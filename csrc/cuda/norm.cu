// Normalisation, equations (rms-norm) and (layer-norm): one block owns one row, and its threads take turns along it.
#include "column_sums.cuh"
#include "vector.cuh"

// What stands in a row, or ones where there is no weight.
template <int V> __device__ Floats<V> load_or_ones(const float *p, int i) {
    Floats<V> v;
    if (p) return load<V>(p, i);
    for (float &number : v.at) number = 1.0f;
    return v;
}

// The sum over D of what `term` makes of each row's number there.  A thread adds up what it meets, at most a few dozen
// numbers, and the block joins these sums pairwise: so no float drifts over 5120 terms.
template <int V, typename Term, typename... In> __device__ float sum_over(int D, Term term, const In *...in) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < D / V; i += blockDim.x)
        [&](auto... v) { for (int k = 0; k < V; k++) sum += term(v.at[k]...); }(load_or_ones<V>(in, i)...);
    return block_sum(sum);
}

template <int V> __device__ void rms_norm_row(float *out, const float *x, const float *weight, float eps, int D) {
    float scale = 1.0f / sqrtf(sum_over<V>(D, [](float v) { return v * v; }, x) / D + eps);
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

// The mean of a row, and what its numbers are multiplied by once that is taken off.
template <int V> __device__ float middle_and_scale(const float *x, float eps, int D, float &middle) {
    float mean = sum_over<V>(D, [](float v) { return v; }, x) / D;
    mean += sum_over<V>(D, [=](float v) { return v - mean; }, x) / D;            // what rounding had left over
    float squares = sum_over<V>(D, [=](float v) { return (v - mean) * (v - mean); }, x);
    middle = mean;
    return 1.0f / sqrtf(squares / D + eps);
}

template <int V> __device__ void layer_norm_row(float *out, const float *x, const float *weight, const float *bias,
                                                float eps, int D) {
    float middle, scale = middle_and_scale<V>(x, eps, D, middle);
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

// Back through a row whose norm is (x - middle) * scale, then times a weight.  Of what comes down, no step along the row
// passes, as its length is undone; and where a middle was taken off, no step of all numbers alike.
template <int V> __device__ void backward_row(float *out, const float *dy, const float *x, const float *weight,
                                              float middle, float scale, bool centred, int D) {
    float alike = 0.0f;
    if (centred) alike = sum_over<V>(D, [](float d, float w) { return d * w; }, dy, weight) / D;
    float along = sum_over<V>(D, [=](float d, float w, float v) { return (d * w - alike) * ((v - middle) * scale); },
                              dy, weight, x) / D;
    for (int i = threadIdx.x; i < D / V; i += blockDim.x) {
        Floats<V> d = load<V>(dy, i), w = load_or_ones<V>(weight, i), v = load<V>(x, i);
        for (int k = 0; k < V; k++) v.at[k] = scale * (d.at[k] * w.at[k] - alike - (v.at[k] - middle) * scale * along);
        store<V>(out, i, v);
    }
}

template <int V> __device__ void rms_norm_backward_row(float *out, float *out_scale, const float *dy, const float *x,
                                                       const float *weight, float eps, int D) {
    float scale = 1.0f / sqrtf(sum_over<V>(D, [](float v) { return v * v; }, x) / D + eps);
    backward_row<V>(out, dy, x, weight, 0.0f, scale, false, D);
    if (threadIdx.x == 0) *out_scale = scale;
}

// dy and x (N, D), weight (D) or null  ->  out_x (N, D), out_scale (N), equation (rms-norm-backward)
extern "C" __global__ void rms_norm_backward_rows(float *out_x, float *out_scale, const float *dy, const float *x,
                                                  const float *weight, float eps, int N, int D) {
    size_t n = blockIdx.x, row = n * D;
    if (fours(D, out_x, dy, x, weight))
        rms_norm_backward_row<4>(out_x + row, out_scale + n, dy + row, x + row, weight, eps, D);
    else rms_norm_backward_row<1>(out_x + row, out_scale + n, dy + row, x + row, weight, eps, D);
}

template <int V> __device__ void layer_norm_backward_row(float *out, float *out_middle, float *out_scale, const float *dy,
                                                         const float *x, const float *weight, float eps, int D) {
    float middle, scale = middle_and_scale<V>(x, eps, D, middle);
    backward_row<V>(out, dy, x, weight, middle, scale, true, D);
    if (threadIdx.x == 0) *out_middle = middle, *out_scale = scale;
}

// dy and x (N, D), weight (D)  ->  out_x (N, D), out_middle and out_scale (N), equation (layer-norm-backward)
extern "C" __global__ void layer_norm_backward_rows(float *out_x, float *out_middle, float *out_scale, const float *dy,
                                                    const float *x, const float *weight, float eps, int N, int D) {
    size_t n = blockIdx.x, row = n * D;
    if (fours(D, out_x, dy, x, weight))
        layer_norm_backward_row<4>(out_x + row, out_middle + n, out_scale + n, dy + row, x + row, weight, eps, D);
    else layer_norm_backward_row<1>(out_x + row, out_middle + n, out_scale + n, dy + row, x + row, weight, eps, D);
}

// What all rows say about a channel's weight and bias: one block owns 32 channels.
//
// dy and x (N, D), middle (N) or null, scale (N)  ->  out_weight (D), out_bias (D) where it is not null
extern "C" __global__ void norm_backward_channels(float *out_weight, float *out_bias, const float *dy, const float *x,
                                                  const float *middle, const float *scale, int N, int D) {
    int d = stripe_column();
    bool mine = d < D;
    float weight = sum_over_rows(N, [&](int n) {
        size_t at = (size_t) n * D + d;
        return mine ? dy[at] * ((x[at] - (middle ? middle[n] : 0.0f)) * scale[n]) : 0.0f;
    });
    if (mine && warp() == 0) out_weight[d] = weight;
    if (!out_bias) return;
    float bias = sum_over_rows(N, [&](int n) { return mine ? dy[(size_t) n * D + d] : 0.0f; });
    if (mine && warp() == 0) out_bias[d] = bias;
}
