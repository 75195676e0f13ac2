// The gradient of attention, equation (gqa-backward): a block owns 32 queries, and the keys pass by, 32 at a time; then a
// block owns 32 keys, and the queries pass by.  Nobody else adds to what a block owns: no atomics, and the same bits every
// time.
//
// Weights are not kept but computed again, here as there: a score is q times k, and what comes down to its weight is dy times
// v.  So a tile of scores takes two tiles of each side, and both kernels do the same with their sides exchanged.
#include <math_constants.h>

#include "mask.cuh"

enum { THREADS = 128, TILE = 32, WEIGHTS = TILE + 4, STRETCH = 16 };    // WEIGHTS: from one row of weights to the next

// Up to TILE rows of d numbers (TILE, pitch), zeros where there is no row or no channel.  A warp takes a row.
template <class Row> __device__ void stage(float *tile, int d, int pitch, Row row) {
    for (int r = threadIdx.x / 32; r < TILE; r += THREADS / 32) {
        const float *from = row(r);
        for (int i = threadIdx.x % 32; i < pitch - 4; i += 32) tile[r * pitch + i] = from && i < d ? from[i] : 0.0f;
    }
}

__device__ float dot(float4 a, float4 b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }

// f of the 8 threads that share two rows.
__device__ float largest_of_8(float x) {
    for (int lane = 4; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, lane));
    return x;
}
__device__ float sum_of_8(float x) {
    for (int lane = 4; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffff, x, lane);
    return x;
}

// Thread (x, y) of 8 by 16 has rows y and y + 16 of the tiles that its block owns, and rows x, x + 8, ... of those that pass.
__device__ inline int own(int r) { return threadIdx.x / 8 + 16 * r; }
__device__ inline int passing(int j) { return threadIdx.x % 8 + 8 * j; }

// Each of its rows of a times each of b.
__device__ void products(float (&out)[2][4], const float *a, const float *b, int d, int pitch) {
    #pragma unroll
    for (int r = 0; r < 2; r++)
        #pragma unroll
        for (int j = 0; j < 4; j++) out[r][j] = 0.0f;
    for (int i = 0; i < d; i += 4) {
        float4 of_b[4];
        #pragma unroll
        for (int j = 0; j < 4; j++) of_b[j] = *(const float4 *) (b + passing(j) * pitch + i);
        #pragma unroll
        for (int r = 0; r < 2; r++) {
            float4 of_a = *(const float4 *) (a + own(r) * pitch + i);
            #pragma unroll
            for (int j = 0; j < 4; j++) out[r][j] += dot(of_a, of_b[j]);
        }
    }
}

// The rows of b that pass, weighed and added up: this thread has channels 32 p + 4 x to 32 p + 4 x + 3 of its own rows.
__device__ void add_up(float (&sum)[2][4][4], const float *weights, const float *b, int d, int pitch) {
    for (int j = 0; j < TILE; j += 4) {
        float4 w[2];
        #pragma unroll
        for (int r = 0; r < 2; r++) w[r] = *(const float4 *) (weights + own(r) * WEIGHTS + j);
        #pragma unroll
        for (int p = 0; p < 4; p++) {
            if (32 * p >= d) break;
            const float *at = b + j * pitch + 32 * p + threadIdx.x % 8 * 4;
            float4 b0 = *(const float4 *) at, b1 = *(const float4 *) (at + pitch),
                   b2 = *(const float4 *) (at + 2 * pitch), b3 = *(const float4 *) (at + 3 * pitch);
            #pragma unroll
            for (int r = 0; r < 2; r++) {
                sum[r][p][0] += dot(w[r], make_float4(b0.x, b1.x, b2.x, b3.x));
                sum[r][p][1] += dot(w[r], make_float4(b0.y, b1.y, b2.y, b3.y));
                sum[r][p][2] += dot(w[r], make_float4(b0.z, b1.z, b2.z, b3.z));
                sum[r][p][3] += dot(w[r], make_float4(b0.w, b1.w, b2.w, b3.w));
            }
        }
    }
}

// What was added up goes to memory, the first time as it is and then on top, and counting begins again: a few hundred terms
// are summed in a register before they join the others, so none drifts.  row(r): where row r of the tile lies, or null.
template <class Row> __device__ void put(float (&sum)[2][4][4], bool more, int d, Row row) {
    #pragma unroll
    for (int r = 0; r < 2; r++) {
        float *to = row(own(r));
        #pragma unroll
        for (int p = 0; p < 4; p++)
            #pragma unroll
            for (int e = 0; e < 4; e++) {
                int i = 32 * p + threadIdx.x % 8 * 4 + e;
                if (to && i < d) to[i] = (more ? to[i] : 0.0f) + sum[r][p][e];
                sum[r][p][e] = 0.0f;
            }
    }
}

// dy and q (B, T, H, d), k and v (B, S, K, d) with d up to 128
// ->  out_q (B, T, H, d), and for the other kernel out_rows (B, T, H, 3): the largest score of a query and head, the sum of
// weights beside it, and the mean of what comes down to its weights.  The mean is measured from what comes down to the
// largest: where that weight is nearly all, every rounding on the way would be as large as what is left in the end.
extern "C" __global__ __launch_bounds__(THREADS)
void attention_backward_q(float *out_q, float *out_rows, const float *dy, const float *q, const float *k, const float *v,
                          int causal, int chunk, long long first, int B, int T, int S, int H, int K, int d) {
    extern __shared__ __align__(16) float memory[];
    int pitch = (d + 31) / 32 * 32 + 4, G = H / K, head = blockIdx.y, b = blockIdx.z;
    float *of_q = memory, *of_dy = of_q + TILE * pitch, *of_k = of_dy + TILE * pitch, *of_v = of_k + TILE * pitch,
          *weights = of_v + TILE * pitch;
    int begin = (gridDim.x - 1 - blockIdx.x) * TILE, count = min(TILE, T * G - begin);          // the longest first
    auto place = [&](int r) { return ((size_t) b * T + (begin + r) / G) * H + head * G + (begin + r) % G; };
    stage(of_q, d, pitch, [&](int r) { return r < count ? q + place(r) * d : nullptr; });
    stage(of_dy, d, pitch, [&](int r) { return r < count ? dy + place(r) * d : nullptr; });

    int low = seen_from(begin / G, causal, chunk, first, T, S), high = seen_to((begin + count - 1) / G, causal, T, S);
    int from[2], to[2];
    #pragma unroll
    for (int r = 0; r < 2; r++) {
        int t = (begin + min(own(r), count - 1)) / G;
        from[r] = seen_from(t, causal, chunk, first, T, S), to[r] = seen_to(t, causal, T, S);
    }
    float score[2][4], down[2][4], root = 1.0f / sqrtf((float) d);
    auto scores = [&](int s) {                      // of the keys from s on; minus infinity where a query may not look
        __syncthreads();                            // nobody reads the tiles before any more
        auto row = [&](const float *a, int r) {
            return s + r < high ? a + (((size_t) b * S + s + r) * K + head) * d : nullptr;
        };
        stage(of_k, d, pitch, [&](int r) { return row(k, r); });
        stage(of_v, d, pitch, [&](int r) { return row(v, r); });
        __syncthreads();                            // these are whole
        products(score, of_q, of_k, d, pitch);
        products(down, of_dy, of_v, d, pitch);
        #pragma unroll
        for (int r = 0; r < 2; r++)
            #pragma unroll
            for (int j = 0; j < 4; j++) {
                int key = s + passing(j);
                score[r][j] = from[r] <= key && key < to[r] ? score[r][j] * root : -CUDART_INF_F;
            }
    };

    float most[2] = {-CUDART_INF_F, -CUDART_INF_F}, total[2] = {}, level[2] = {}, mean[2] = {}, sum[2][4][4] = {};
    for (int s = low; s < high; s += TILE) {
        scores(s);
        #pragma unroll
        for (int r = 0; r < 2; r++) {
            float top = most[r];
            #pragma unroll
            for (int j = 0; j < 4; j++) top = fmaxf(top, score[r][j]);
            top = largest_of_8(top);
            float base = top == -CUDART_INF_F ? 0.0f : top;             // a row that has seen nothing yet
            float before = expf(most[r] - base), at_top = -CUDART_INF_F;
            #pragma unroll
            for (int j = 0; j < 4; j++)
                if (score[r][j] == top) at_top = fmaxf(at_top, down[r][j]);
            at_top = largest_of_8(at_top);
            if (top == most[r]) at_top = level[r];
            total[r] *= before, mean[r] = mean[r] * before + (level[r] - at_top) * total[r];
            most[r] = top, level[r] = at_top;
            #pragma unroll
            for (int j = 0; j < 4; j++) {
                float weight = expf(score[r][j] - base);
                total[r] += weight, mean[r] += weight * (down[r][j] - at_top);
            }
        }
    }
    #pragma unroll
    for (int r = 0; r < 2; r++) {
        total[r] = sum_of_8(total[r]), mean[r] = level[r] + sum_of_8(mean[r]) / total[r];
        float *of_row = out_rows + place(own(r)) * 3;
        if (own(r) < count && threadIdx.x % 8 == 0) of_row[0] = most[r], of_row[1] = total[r], of_row[2] = mean[r];
    }

    auto row = [&](int r) { return r < count ? out_q + place(r) * d : nullptr; };
    int tiles = 0;
    for (int s = low; s < high; s += TILE) {
        scores(s);
        #pragma unroll
        for (int r = 0; r < 2; r++)
            #pragma unroll
            for (int j = 0; j < 4; j++)
                weights[own(r) * WEIGHTS + passing(j)] = expf(score[r][j] - most[r]) / total[r] * (down[r][j] - mean[r]) * root;
        __syncwarp();                               // weights go from lane to lane of one warp only
        add_up(sum, weights, of_k, d, pitch);
        if (++tiles % STRETCH == 0) put(sum, tiles > STRETCH, d, row);
    }
    put(sum, tiles >= STRETCH, d, row);
}

// dy and q (B, T, H, d), rows (B, T, H, 3) from above, k and v (B, S, K, d)  ->  out_k and out_v (B, S, K, d)
extern "C" __global__ __launch_bounds__(THREADS)
void attention_backward_kv(float *out_k, float *out_v, const float *dy, const float *q, const float *rows, const float *k,
                           const float *v, int causal, int chunk, long long first, int B, int T, int S, int H, int K, int d) {
    extern __shared__ __align__(16) float memory[];
    int pitch = (d + 31) / 32 * 32 + 4, G = H / K, head = blockIdx.y, b = blockIdx.z;
    float *of_k = memory, *of_v = of_k + TILE * pitch, *of_q = of_v + TILE * pitch, *of_dy = of_q + TILE * pitch,
          *weights = of_dy + TILE * pitch, *slopes = weights + TILE * WEIGHTS;
    int begin = blockIdx.x * TILE, count = min(TILE, S - begin);
    auto place = [&](int r) { return (((size_t) b * S + begin + r) * K + head) * d; };
    stage(of_k, d, pitch, [&](int r) { return r < count ? k + place(r) : nullptr; });
    stage(of_v, d, pitch, [&](int r) { return r < count ? v + place(r) : nullptr; });

    int from[2], to[2];                             // rows of queries that see a key: G for each query
    #pragma unroll
    for (int r = 0; r < 2; r++) {
        int s = begin + min(own(r), count - 1);
        from[r] = G * sees_from(s, causal, T, S), to[r] = G * sees_to(s, causal, chunk, first, T, S);
    }
    int low = G * sees_from(begin, causal, T, S), high = G * sees_to(begin + count - 1, causal, chunk, first, T, S), tiles = 0;
    float score[2][4], down[2][4], sum_k[2][4][4] = {}, sum_v[2][4][4] = {}, root = 1.0f / sqrtf((float) d);
    auto row_k = [&](int r) { return r < count ? out_k + place(r) : nullptr; };
    auto row_v = [&](int r) { return r < count ? out_v + place(r) : nullptr; };
    for (int n = low; n < high; n += TILE) {
        auto query = [&](int r) { return ((size_t) b * T + (n + r) / G) * H + head * G + (n + r) % G; };
        __syncthreads();                            // nobody reads the tiles before any more
        stage(of_q, d, pitch, [&](int r) { return n + r < high ? q + query(r) * d : nullptr; });
        stage(of_dy, d, pitch, [&](int r) { return n + r < high ? dy + query(r) * d : nullptr; });
        __syncthreads();                            // these are whole
        products(score, of_k, of_q, d, pitch);
        products(down, of_v, of_dy, d, pitch);
        #pragma unroll
        for (int j = 0; j < 4; j++) {
            int at = n + passing(j);
            const float *of_row = rows + query(min(passing(j), high - 1 - n)) * 3;
            float most = of_row[0], total = of_row[1], mean = of_row[2];
            #pragma unroll
            for (int r = 0; r < 2; r++) {
                float weight = from[r] <= at && at < to[r] ? expf(score[r][j] * root - most) / total : 0.0f;
                weights[own(r) * WEIGHTS + passing(j)] = weight;
                slopes[own(r) * WEIGHTS + passing(j)] = weight * (down[r][j] - mean) * root;
            }
        }
        __syncwarp();                               // weights go from lane to lane of one warp only
        add_up(sum_k, slopes, of_q, d, pitch);
        add_up(sum_v, weights, of_dy, d, pitch);
        if (++tiles % STRETCH == 0) put(sum_k, tiles > STRETCH, d, row_k), put(sum_v, tiles > STRETCH, d, row_v);
    }
    put(sum_k, tiles >= STRETCH, d, row_k), put(sum_v, tiles >= STRETCH, d, row_v);
}
