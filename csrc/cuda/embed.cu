// The embedding table, equation (embed): one block owns one token and copies its row.

// tokens (N), embedding (V, D)  ->  out (N, D)
extern "C" __global__ void embed(float *out, const long long *tokens, const float *embedding, int N, int D) {
    const float *row = embedding + tokens[blockIdx.x] * D;
    for (int i = threadIdx.x; i < D; i += blockDim.x) out[(size_t) blockIdx.x * D + i] = row[i];
}
