// The router of a mixture of experts, equation (router): one block owns one token; its threads share out the channels of
// every expert.

// Of two experts, whose comes first?  The higher score's, among equals the lower one's; NaN is last.
__device__ inline bool before(const float *score, int a, int b) {
    if (isnan(score[a]) || isnan(score[b])) return isnan(score[a]) == isnan(score[b]) ? a < b : isnan(score[b]);
    return score[a] == score[b] ? a < b : score[a] > score[b];
}

// x (N, D), w_router (D, E)  ->  out_expert and out_gate (N, top_k).  Launched with a multiple of E threads, and shared
// memory for a float of each of them and E more.
extern "C" __global__ void router(long long *out_expert, float *out_gate, const float *x, const float *w_router,
                                  int top_k, int N, int D, int E) {
    extern __shared__ float partial[];
    float *score = partial + blockDim.x;
    int e = threadIdx.x % E, part = threadIdx.x / E, parts = blockDim.x / E;
    float sum = 0.0f;
    for (int i = part; i < D; i += parts)               // neighbouring threads read neighbouring experts' weights
        sum += x[(size_t) blockIdx.x * D + i] * w_router[(size_t) i * E + e];
    partial[threadIdx.x] = sum;
    __syncthreads();
    if (part == 0) {
        for (int other = 1; other < parts; other++) sum += partial[other * E + e];
        score[e] = sum;
    }
    __syncthreads();
    if (part == 0) {
        int rank = 0;                                   // each expert counts those that come before it: nobody sorts
        for (int other = 0; other < E; other++) rank += before(score, other, e);
        if (rank < top_k) {
            float small = expf(-fabsf(sum));
            out_expert[(size_t) blockIdx.x * top_k + rank] = e;
            out_gate[(size_t) blockIdx.x * top_k + rank] = (sum >= 0 ? 1.0f : small) / (1.0f + small);
        }
    }
}
