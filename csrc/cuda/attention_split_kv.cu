// Attention of a few queries over many keys, as in decoding: split-KV, or FlashDecoding.  The keys are split over blocks,
// and a second kernel combines the blocks' results as if each were a tile of equation (online-softmax).
//
// One query of one head is too little work for a GPU, and one key head too few blocks.  So a block owns a stretch of the
// keys of one key head and up to 8 rows, a row being a query of one of the G heads that share it: every key and every
// value is read from memory once, by one block, for all of them.
#include <math_constants.h>

#include "bf16.cuh"
#include "mask.cuh"

enum { THREADS = 128, ROWS = 8, KEYS = 32 };        // a thread for each channel of a value; a lane for each key of a tile

// q (B, T, H, d), k and v (B, S, K, d)  ->  out (B, T, H, parts, d + 2): weighted sum of values, largest score, sum of weights
template <class Number>
__device__ void part(float *out, const float *q, const Number *k, const Number *v, int causal, int chunk,
                     long long first, int T, int S, int H, int K, int d) {
    __shared__ float queries[ROWS][THREADS], weights[ROWS][KEYS], before[ROWS];
    int G = H / K, head = blockIdx.y % K, begin = blockIdx.y / K * ROWS, b = blockIdx.z, count = min(ROWS, T * G - begin);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, channel = threadIdx.x;
    auto place = [&](int r) { return ((size_t) b * T + (begin + r) / G) * H + head * G + (begin + r) % G; };
    for (int r = 0; r < ROWS; r++)
        queries[r][channel] = r < count && channel < d ? q[place(r) * d + channel] / sqrtf((float) d) : 0.0f;

    int low = seen_from(begin / G, causal, chunk, first, T, S), high = seen_to((begin + count - 1) / G, causal, T, S);
    int stretch = ((high - low + gridDim.x - 1) / gridDim.x + KEYS - 1) / KEYS * KEYS;
    low += blockIdx.x * stretch, high = min(high, low + stretch);
    int from[2], to[2];                             // of rows warp and warp + 4, which this warp turns into weights
    float most[2] = {-CUDART_INF_F, -CUDART_INF_F}, total[2] = {}, sum[ROWS] = {};
    #pragma unroll
    for (int n = 0; n < 2; n++) {
        int t = (begin + min(warp + 4 * n, count - 1)) / G;
        from[n] = seen_from(t, causal, chunk, first, T, S), to[n] = min(high, seen_to(t, causal, T, S));
    }
    for (int s = low; s < high; s += KEYS) {
        __syncthreads();                            // queries are there, and nobody needs the weights of the last tile
        for (int n = 0; n < KEYS / 16; n++) {       // scores: eight lanes share a key, and read 8 channels of it at a time
            int key = 16 * n + threadIdx.x / 8;
            const Number *row = k + (((size_t) b * S + min(s + key, high - 1)) * K + head) * d;
            float score[ROWS] = {};
            for (int i = lane % 8; i < d; i += 8) {
                float of_k = widened(row[i]);
                #pragma unroll
                for (int r = 0; r < ROWS; r++) score[r] += of_k * queries[r][i];
            }
            #pragma unroll
            for (int r = 0; r < ROWS; r++) {
                for (int other = 4; other > 0; other /= 2) score[r] += __shfl_xor_sync(0xffffffff, score[r], other);
                if (lane % 8 == 0) weights[r][key] = score[r];
            }
        }
        __syncthreads();                            // all scores of the tile are there
        #pragma unroll
        for (int n = 0; n < 2; n++) {               // weights: a lane has a key
            int r = warp + 4 * n, key = s + lane;
            float score = from[n] <= key && key < to[n] ? weights[r][lane] : -CUDART_INF_F, top = fmaxf(most[n], score);
            for (int other = 16; other > 0; other /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, other));
            float base = top == -CUDART_INF_F ? 0.0f : top, shrink = expf(most[n] - base), weight = expf(score - base);
            weights[r][lane] = weight, total[n] = total[n] * shrink + weight, most[n] = top;
            if (lane == 0) before[r] = shrink;
        }
        __syncthreads();                            // all weights are
        if (channel < d) {                          // the weighted sum: a thread has a channel
            #pragma unroll
            for (int r = 0; r < ROWS; r++) sum[r] *= before[r];
            #pragma unroll 8
            for (int key = 0; key < min(KEYS, high - s); key++) {
                float of_v = widened(v[(((size_t) b * S + s + key) * K + head) * d + channel]);
                #pragma unroll
                for (int r = 0; r < ROWS; r++) sum[r] += weights[r][key] * of_v;
            }
        }
    }
    // What this block has found.
    #pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (r < count && channel < d) out[(place(r) * gridDim.x + blockIdx.x) * (d + 2) + channel] = sum[r];
    #pragma unroll
    for (int n = 0; n < 2; n++) {
        for (int other = 16; other > 0; other /= 2) total[n] += __shfl_xor_sync(0xffffffff, total[n], other);
        float *of_row = out + (place(warp + 4 * n) * gridDim.x + blockIdx.x) * (d + 2) + d;
        if (warp + 4 * n < count && lane == 0) of_row[0] = most[n], of_row[1] = total[n];
    }
}

extern "C" __global__ __launch_bounds__(THREADS)
void attention_split_kv(float *out, const float *q, const float *k, const float *v, int causal, int chunk,
                        long long first, int B, int T, int S, int H, int K, int d) {
    part(out, q, k, v, causal, chunk, first, T, S, H, K, d);
}

// The same of a cache in bfloat16.
extern "C" __global__ __launch_bounds__(THREADS)
void attention_split_kv_bf16(float *out, const float *q, const bf16 *k, const bf16 *v, int causal, int chunk,
                             long long first, int B, int T, int S, int H, int K, int d) {
    part(out, q, k, v, causal, chunk, first, T, S, H, K, d);
}

// One block joins the parts of one query and head:  parts (B * T * H, parts, d + 2)  ->  out (B * T * H, d)
extern "C" __global__ __launch_bounds__(THREADS) void attention_combine(float *out, const float *parts, int count, int d) {
    const float *mine = parts + (size_t) blockIdx.x * count * (d + 2);
    float most = -CUDART_INF_F, total = 0.0f, sum = 0.0f;
    for (int p = 0; p < count; p++) most = fmaxf(most, mine[p * (d + 2) + d]);
    for (int p = 0; p < count; p++) {
        float scale = expf(mine[p * (d + 2) + d] - most);
        total += scale * mine[p * (d + 2) + d + 1];
        if (threadIdx.x < d) sum += scale * mine[p * (d + 2) + threadIdx.x];
    }
    if (threadIdx.x < d) out[(size_t) blockIdx.x * d + threadIdx.x] = sum / total;
}
