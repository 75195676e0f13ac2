// Softmax, equation (softmax): one block owns one row and goes along it three times: for the largest number, for the
// sum, and for the result.
#include <math_constants.h>

#include "vector.cuh"
#include "warp.cuh"

template <int V> __device__ float largest(const float *x, int S) {
    float best = x[0];
    for (int i = threadIdx.x; i < S / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i);
        for (float number : v.at) best = fmaxf(best, number);
    }
    return block_max(best);
}

template <int V> __device__ void softmax_row(float *out, const float *x, int S) {
    float best = largest<V>(x, S), sum = 0.0f;
    for (int i = threadIdx.x; i < S / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i);
        for (float number : v.at) sum += expf(number - best);       // no larger than 1: exp never overflows
    }
    sum = block_sum(sum);
    for (int i = threadIdx.x; i < S / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i);
        for (float &number : v.at) number = expf(number - best) / sum;
        store<V>(out, i, v);
    }
}

// x (N, S)  ->  out (N, S)
extern "C" __global__ void softmax(float *out, const float *x, int N, int S) {
    size_t row = (size_t) blockIdx.x * S;
    if (fours(S, out, x)) softmax_row<4>(out + row, x + row, S);
    else softmax_row<1>(out + row, x + row, S);
}

// What beats the weighted mean of dy is pulled up.  The mean is measured from what comes down to the largest number: where
// that has nearly all the weight, every rounding on the way would be as large as what is left in the end.
template <int V> __device__ void softmax_backward_row(float *out, const float *dy, const float *x, int S) {
    float mine = -CUDART_INF_F, down = 0.0f, sum = 0.0f, mean = 0.0f;
    for (int i = threadIdx.x; i < S / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i), d = load<V>(dy, i);
        for (int k = 0; k < V; k++)
            if (v.at[k] > mine) mine = v.at[k], down = d.at[k];
    }
    float best = block_max(mine), level = block_max(mine == best ? down : -CUDART_INF_F);
    for (int i = threadIdx.x; i < S / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i), d = load<V>(dy, i);
        for (int k = 0; k < V; k++) {
            float e = expf(v.at[k] - best);
            sum += e, mean += e * (d.at[k] - level);
        }
    }
    sum = block_sum(sum), mean = level + block_sum(mean) / sum;
    for (int i = threadIdx.x; i < S / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i), d = load<V>(dy, i);
        for (int k = 0; k < V; k++) v.at[k] = expf(v.at[k] - best) / sum * (d.at[k] - mean);
        store<V>(out, i, v);
    }
}

// dy and x (N, S)  ->  out (N, S), equation (softmax-backward)
extern "C" __global__ void softmax_backward(float *out, const float *dy, const float *x, int N, int S) {
    size_t row = (size_t) blockIdx.x * S;
    if (fours(S, out, dy, x)) softmax_backward_row<4>(out + row, dy + row, x + row, S);
    else softmax_backward_row<1>(out + row, dy + row, x + row, S);
}
