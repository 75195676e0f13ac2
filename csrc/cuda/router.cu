// The router of a mixture of experts, equation (router): one block owns one token; its threads divide the channels of
// every expert.

// True if expert a ranks before expert b: by higher score, then by lower number; NaN is last.
__device__ inline bool is_ranked_before(const float *score, int a, int b) {
    if (isnan(score[a]) || isnan(score[b])) return isnan(score[a]) == isnan(score[b]) ? a < b : isnan(score[b]);
    return score[a] == score[b] ? a < b : score[a] > score[b];
}

// x (N, D), w_router (D, E)  ->  out_expert and out_gate (N, top_k).  Launched with a multiple of E threads, and shared
// memory for a float per thread and E more.
extern "C" __global__ void router(long long *out_expert, float *out_gate, const float *x, const float *w_router,
                                  int top_k, int N, int D, int E) {
    extern __shared__ float partial[];
    float *score = partial + blockDim.x;
    int e = threadIdx.x % E, slice = threadIdx.x / E, slices = blockDim.x / E;
    float sum = 0.0f;
    for (int i = slice; i < D; i += slices)  // neighbouring threads read neighbouring experts' weights
        sum += x[(size_t) blockIdx.x * D + i] * w_router[(size_t) i * E + e];
    partial[threadIdx.x] = sum;
    __syncthreads();
    if (slice == 0) {
        for (int s = 1; s < slices; s++) sum += partial[s * E + e];
        score[e] = sum;
    }
    __syncthreads();
    if (slice == 0) {
        int rank = 0;  // each expert counts those that rank before it: no sorting
        for (int other = 0; other < E; other++) rank += is_ranked_before(score, other, e);
        if (rank < top_k) {
            float exp_abs = expf(-fabsf(sum));  // never overflows
            out_expert[(size_t) blockIdx.x * top_k + rank] = e;
            out_gate[(size_t) blockIdx.x * top_k + rank] = (sum >= 0 ? 1.0f : exp_abs) / (1.0f + exp_abs);
        }
    }
}
