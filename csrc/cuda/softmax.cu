// Softmax, equation (softmax): one block owns one row and reads it three times: for the maximum, for the sum, and for
// the result.
#include <math_constants.h>

#include "vector.cuh"
#include "warp.cuh"

template <int V> __device__ float row_max(const float *x, int S) {
    float x_max = x[0];
    for (int i = threadIdx.x; i < S / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i);
        for (float number : v.at) x_max = fmaxf(x_max, number);
    }
    return block_max(x_max);
}

template <int V> __device__ void softmax_row(float *out, const float *x, int S) {
    float x_max = row_max<V>(x, S), sum = 0.0f;
    for (int i = threadIdx.x; i < S / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i);
        for (float number : v.at) sum += expf(number - x_max);  // no larger than 1: exp never overflows
    }
    sum = block_sum(sum);
    for (int i = threadIdx.x; i < S / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i);
        for (float &number : v.at) number = expf(number - x_max) / sum;
        store<V>(out, i, v);
    }
}

// x (N, S)  ->  out (N, S)
extern "C" __global__ void softmax(float *out, const float *x, int N, int S) {
    size_t row = (size_t) blockIdx.x * S;
    if (is_vec4_aligned(S, out, x)) softmax_row<4>(out + row, x + row, S);
    else softmax_row<1>(out + row, x + row, S);
}

// dx = softmax(x) * (dy - mean), with the mean of dy weighted by softmax(x).  The mean is computed relative to dy at
// the largest x: if that has nearly all the weight, the subtraction would otherwise cancel.
template <int V> __device__ void softmax_backward_row(float *out, const float *dy, const float *x, int S) {
    float thread_max = -CUDART_INF_F, dy_at_thread_max = 0.0f, sum = 0.0f, mean = 0.0f;
    for (int i = threadIdx.x; i < S / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i), d = load<V>(dy, i);
        for (int k = 0; k < V; k++)
            if (v.at[k] > thread_max) thread_max = v.at[k], dy_at_thread_max = d.at[k];
    }
    float x_max = block_max(thread_max), dy_at_max = block_max(thread_max == x_max ? dy_at_thread_max : -CUDART_INF_F);
    for (int i = threadIdx.x; i < S / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i), d = load<V>(dy, i);
        for (int k = 0; k < V; k++) {
            float e = expf(v.at[k] - x_max);
            sum += e, mean += e * (d.at[k] - dy_at_max);
        }
    }
    sum = block_sum(sum), mean = dy_at_max + block_sum(mean) / sum;
    for (int i = threadIdx.x; i < S / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i), d = load<V>(dy, i);
        for (int k = 0; k < V; k++) v.at[k] = expf(v.at[k] - x_max) / sum * (d.at[k] - mean);
        store<V>(out, i, v);
    }
}

// dy and x (N, S)  ->  out (N, S), equation (softmax-backward)
extern "C" __global__ void softmax_backward(float *out, const float *dy, const float *x, int N, int S) {
    size_t row = (size_t) blockIdx.x * S;
    if (is_vec4_aligned(S, out, dy, x)) softmax_backward_row<4>(out + row, dy + row, x + row, S);
    else softmax_backward_row<1>(out + row, dy + row, x + row, S);
}
