// What training minimises, equation (cross-entropy): one block owns one row of logits.
#include "warp.cuh"

// logits (N, V), targets (N) below V, negative ones ignored  ->  out (N), the loss of each row, 0 where ignored
extern "C" __global__ void cross_entropy(double *out, const float *logits, const long long *targets, int N, int V) {
    const float *x = logits + (size_t) blockIdx.x * V;
    long long target = targets[blockIdx.x];
    if (target < 0) {                                   // all threads of the block alike: none waits for the others
        if (threadIdx.x == 0) out[blockIdx.x] = 0.0;
        return;
    }
    float best = x[0], sum = 0.0f;
    for (int i = threadIdx.x; i < V; i += blockDim.x) best = fmaxf(best, x[i]);
    best = block_max(best);
    for (int i = threadIdx.x; i < V; i += blockDim.x) sum += expf(x[i] - best);
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = (double) logf(sum) - ((double) x[target] - best);
}
