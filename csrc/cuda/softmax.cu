// Softmax, equation (softmax): one block owns one row and goes along it three times: for the largest number, for the
// sum, and for the result.
#include "vector.cuh"
#include "warp.cuh"

template <int V> __device__ void softmax_row(float *out, const float *x, int S) {
    float best = x[0], sum = 0.0f;
    for (int i = threadIdx.x; i < S / V; i += blockDim.x) {
        Floats<V> v = load<V>(x, i);
        for (float number : v.at) best = fmaxf(best, number);
    }
    best = block_max(best);
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
