// What training minimises, equation (cross-entropy): one block owns one row of logits.
#include "warp.cuh"

// The largest of a row's logits, and what the others' exponentials come to beside it.
__device__ float sum_beside_best(const float *x, int V, float &best) {
    float sum = 0.0f;
    best = x[0];
    for (int i = threadIdx.x; i < V; i += blockDim.x) best = fmaxf(best, x[i]);
    best = block_max(best);
    for (int i = threadIdx.x; i < V; i += blockDim.x) sum += expf(x[i] - best);
    return block_sum(sum);
}

// logits (N, V), targets (N) below V, negative ones ignored  ->  out (N), the loss of each row, 0 where ignored
extern "C" __global__ void cross_entropy(double *out, const float *logits, const long long *targets, int N, int V) {
    const float *x = logits + (size_t) blockIdx.x * V;
    long long target = targets[blockIdx.x];
    if (target < 0) {                                   // all threads of the block alike: none waits for the others
        if (threadIdx.x == 0) out[blockIdx.x] = 0.0;
        return;
    }
    float best, sum = sum_beside_best(x, V, best);
    if (threadIdx.x == 0) out[blockIdx.x] = (double) logf(sum) - ((double) x[target] - best);
}

// Its gradient, equation (cross-entropy-backward), where dy comes down to every row that is not ignored.
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
    float best, sum = sum_beside_best(x, V, best);
    for (int i = threadIdx.x; i < V; i += blockDim.x) dx[i] = dy * (expf(x[i] - best) / sum - (i == target ? 1.0f : 0.0f));
}
