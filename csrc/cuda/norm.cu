// Normalisation, equations (rms-norm) and (layer-norm): one block owns one row, and its threads take turns along it.
#include "vector.cuh"
#include "warp.cuh"

// Each thread sums what it meets, at most a few dozen numbers, and the block joins the sums pairwise: so no float
// drifts over 5120 terms.  x and out (D), here and below: this block's row.
template <int V> __device__ float sum_of_squares(const float *x, float middle, int D) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < D / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i);
        for (float number : v.at) sum += (number - middle) * (number - middle);
    }
    return block_sum(sum);
}

template <int V> __device__ void rms_norm_row(float *out, const float *x, const float *weight, float eps, int D) {
    float scale = 1.0f / sqrtf(sum_of_squares<V>(x, 0.0f, D) / D + eps);
    for (int i = threadIdx.x; i < D / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i), w = {};
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
