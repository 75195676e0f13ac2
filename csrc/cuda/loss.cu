// The training loss, equation (cross-entropy): one block owns one row of logits.
#include "warp.cuh"

// The largest of a row's logits, and the sum of exp(x - x_max) over the row.
__device__ float sum_exp_minus_max(const float *x, int V, float &x_max) {
    float sum = 0.0f;
    x_max = x[0];
    for (int i = threadIdx.x; i < V; i += blockDim.x) x_max = fmaxf(x_max, x[i]);
    x_max = block_max(x_max);
    for (int i = threadIdx.x; i < V; i += blockDim.x) sum += expf(x[i] - x_max);
    return block_sum(sum);
}

// logits (N, V), targets (N) below V, negative ones ignored  ->  out (N), the loss of each row, 0 where ignored
extern "C" __global__ void cross_entropy(double *out, const float *logits, const long long *targets, int N, int V) {
    const float *x = logits + (size_t) blockIdx.x * V;
    long long target = targets[blockIdx.x];
    if (target < 0) {  // all threads of the block return: none waits at a barrier
        if (threadIdx.x == 0) out[blockIdx.x] = 0.0;
        return;
    }
    float x_max, sum = sum_exp_minus_max(x, V, x_max);
    if (threadIdx.x == 0) out[blockIdx.x] = (double) logf(sum) - ((double) x[target] - x_max);
}

// Its gradient, equation (cross-entropy-backward), with the same dy for every row that is not ignored.
//
// logits (N, V), targets (N)  ->  out (N, V), zeros in an ignored row
extern "C" __global__ void cross_entropy_backward(float *out, float dy, const float *logits, const long long *targets,
                                                  int N, int V) {
    const float *x = logits + (size_t) blockIdx.x * V;
    float *dx = out + (size_t) blockIdx.x * V;
    long long target = targets[blockIdx.x];
    if (target < 0) {
        for (int i = threadIdx.x; i < V; i += blockDim.x) dx[i] = 0.0f;
        return;
    }
    float x_max, sum = sum_exp_minus_max(x, V, x_max);
    for (int i = threadIdx.x; i < V; i += blockDim.x) {
        float softmax = expf(x[i] - x_max) / sum;
        dx[i] = dy * (softmax - (i == target ? 1.0f : 0.0f));
    }
}
