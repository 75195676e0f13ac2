// The embedding table, equation (embed): one block owns one token and copies its row.
#include "warp.cuh"

// tokens (N), embedding (V, D)  ->  out (N, D)
extern "C" __global__ void embed(float *out, const long long *tokens, const float *embedding, int N, int D) {
    const float *row = embedding + tokens[blockIdx.x] * D;
    for (int i = threadIdx.x; i < D; i += blockDim.x) out[(size_t) blockIdx.x * D + i] = row[i];
}

// Its gradient, equation (embed-backward): one warp owns one row of the table, and looks for its token among all
// tokens.  Every sum is computed by one warp: no atomics, and deterministic results.
//
// dy (N, D), tokens (N), embedding (V, D), of which only the shape matters  ->  out (V, D)
extern "C" __global__ void embed_backward(float *out, const float *dy, const long long *tokens, const float *embedding,
                                          int N, int D, int V) {
    int token = blockIdx.x * warp_count() + warp();
    if (token >= V) return;
    float *row = out + (size_t) token * D;
    for (int d = lane(); d < D; d += WARP) row[d] = 0.0f;
    for (int start = 0; start < N; start += WARP) {
        int n = start + lane();
        unsigned matches = __ballot_sync(FULL_MASK, n < N && tokens[n] == token);
        for (int d = lane(); matches && d < D; d += WARP) {
            float sum = 0.0f;  // of up to 32 tokens: partial sums do not drift
            for (unsigned bits = matches; bits; bits &= bits - 1) sum += dy[(size_t) (start + __ffs(bits) - 1) * D + d];
            row[d] += sum;
        }
    }
}
