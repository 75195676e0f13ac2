// Attention in tiles, equation (online-softmax): one block owns 64 rows of one key head, and keys pass by 32 at a time.
//
// A row is a query of one of the G heads that read that key head, so a tile of keys, once it is in shared memory, serves
// all of them.  Each thread keeps 4 rows by 4 columns of scores in registers, and later 4 rows by up to 16 channels of
// the result: what it loads serves four times.  Tiles that no row may see are never fetched.
#include <math_constants.h>

#include "bf16.cuh"
#include "mask.cuh"

enum { THREADS = 128, ROWS = 64, KEYS = 32, WEIGHTS = KEYS + 4 };       // WEIGHTS: from one row of weights to the next

// Up to `most` rows of d numbers as floats (most, pitch), zeros where there is no row or no channel.  A warp takes a row.
template <class Row> __device__ void stage(float *tile, int most, int d, int pitch, Row row) {
    for (int r = threadIdx.x / 32; r < most; r += THREADS / 32) {
        auto from = row(r);
        for (int i = threadIdx.x % 32; i < pitch - 4; i += 32) tile[r * pitch + i] = from && i < d ? widened(from[i]) : 0.0f;
    }
}

__device__ float dot(float4 a, float4 b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }

// f of the 8 threads that share four rows.
__device__ float largest_of_8(float x) {
    for (int lane = 4; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, lane));
    return x;
}
__device__ float sum_of_8(float x) {
    for (int lane = 4; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffff, x, lane);
    return x;
}

template <class Number>
__device__ void attend(float *out, const float *q, const Number *k, const Number *v, int causal, int chunk,
                       long long first, int T, int S, int H, int K, int d) {
    extern __shared__ __align__(16) float memory[];
    int pitch = (d + 31) / 32 * 32 + 4;             // 4 more: eight rows then begin in different banks
    float *queries = memory, *keys = queries + ROWS * pitch, *values = keys + KEYS * pitch, *weights = values + KEYS * pitch;
    int G = H / K, head = blockIdx.y, b = blockIdx.z, begin = (gridDim.x - 1 - blockIdx.x) * ROWS;      // the longest first
    int count = min(ROWS, T * G - begin);
    auto place = [&](int r) { return (((size_t) b * T + (begin + r) / G) * H + head * G + (begin + r) % G) * d; };
    stage(queries, ROWS, d, pitch, [&](int r) { return r < count ? q + place(r) : nullptr; });

    int x = threadIdx.x % 8, y = threadIdx.x / 8;   // this thread's rows are y, y + 16, ...: a warp has 16 of its own
    int from[4], to[4];
    float most[4], total[4] = {}, sum[4][4][4] = {}, root = 1.0f / sqrtf((float) d);
    #pragma unroll
    for (int r = 0; r < 4; r++) {
        int t = (begin + min(y + 16 * r, count - 1)) / G;
        from[r] = seen_from(t, causal, chunk, first, T, S), to[r] = seen_to(t, causal, T, S), most[r] = -CUDART_INF_F;
    }
    int low = seen_from(begin / G, causal, chunk, first, T, S), high = seen_to((begin + count - 1) / G, causal, T, S);

    for (int s = low; s < high; s += KEYS) {
        auto row = [&](const Number *a, int r) {
            return s + r < high ? a + (((size_t) b * S + s + r) * K + head) * d : nullptr;
        };
        __syncthreads();                            // nobody reads the tiles before any more
        stage(keys, KEYS, d, pitch, [&](int r) { return row(k, r); });
        stage(values, KEYS, d, pitch, [&](int r) { return row(v, r); });
        __syncthreads();                            // these are whole

        float score[4][4] = {};                     // of keys x, x + 8, ...
        for (int i = 0; i < d; i += 4) {
            float4 of_k[4];
            #pragma unroll
            for (int j = 0; j < 4; j++) of_k[j] = *(const float4 *) (keys + (x + 8 * j) * pitch + i);
            #pragma unroll
            for (int r = 0; r < 4; r++) {
                float4 of_q = *(const float4 *) (queries + (y + 16 * r) * pitch + i);
                #pragma unroll
                for (int j = 0; j < 4; j++) score[r][j] += dot(of_q, of_k[j]);
            }
        }
        // Scores become weights; eight threads share a row.
        #pragma unroll
        for (int r = 0; r < 4; r++) {
            float top = most[r];
            #pragma unroll
            for (int j = 0; j < 4; j++) {
                int key = s + x + 8 * j;
                score[r][j] = from[r] <= key && key < to[r] ? score[r][j] * root : -CUDART_INF_F;
                top = fmaxf(top, score[r][j]);
            }
            top = largest_of_8(top);
            float base = top == -CUDART_INF_F ? 0.0f : top;             // a row that has seen nothing yet
            float before = expf(most[r] - base);
            most[r] = top, total[r] *= before;
            #pragma unroll
            for (int j = 0; j < 4; j++) {
                float weight = expf(score[r][j] - base);
                weights[(y + 16 * r) * WEIGHTS + x + 8 * j] = weight, total[r] += weight;
            }
            #pragma unroll
            for (int p = 0; p < 4; p++)
                #pragma unroll
                for (int e = 0; e < 4; e++) sum[r][p][e] *= before;
        }
        __syncwarp();                               // weights go from lane to lane of one warp only
        for (int j = 0; j < KEYS; j += 4) {
            float4 w[4];
            #pragma unroll
            for (int r = 0; r < 4; r++) w[r] = *(const float4 *) (weights + (y + 16 * r) * WEIGHTS + j);
            #pragma unroll
            for (int p = 0; p < 4; p++) {           // channels 32 p + 4 x to 32 p + 4 x + 3
                if (32 * p >= d) break;
                const float *value = values + j * pitch + 32 * p + 4 * x;
                float4 v0 = *(const float4 *) value, v1 = *(const float4 *) (value + pitch),
                       v2 = *(const float4 *) (value + 2 * pitch), v3 = *(const float4 *) (value + 3 * pitch);
                #pragma unroll
                for (int r = 0; r < 4; r++) {
                    sum[r][p][0] += dot(w[r], make_float4(v0.x, v1.x, v2.x, v3.x));
                    sum[r][p][1] += dot(w[r], make_float4(v0.y, v1.y, v2.y, v3.y));
                    sum[r][p][2] += dot(w[r], make_float4(v0.z, v1.z, v2.z, v3.z));
                    sum[r][p][3] += dot(w[r], make_float4(v0.w, v1.w, v2.w, v3.w));
                }
            }
        }
    }
    #pragma unroll
    for (int r = 0; r < 4; r++) {
        float all = sum_of_8(total[r]);
        #pragma unroll
        for (int p = 0; p < 4; p++)
            #pragma unroll
            for (int e = 0; e < 4; e++) {
                int i = 32 * p + 4 * x + e;
                if (y + 16 * r < count && i < d) out[place(y + 16 * r) + i] = sum[r][p][e] / all;
            }
    }
}

// q (B, T, H, d), k and v (B, S, K, d) with d up to 128  ->  out (B, T, H, d)
extern "C" __global__ __launch_bounds__(THREADS)
void grouped_query_attention_2(float *out, const float *q, const float *k, const float *v, int causal, int chunk,
                               long long first, int B, int T, int S, int H, int K, int d) {
    attend(out, q, k, v, causal, chunk, first, T, S, H, K, d);
}

// The same of a cache in bfloat16.
extern "C" __global__ __launch_bounds__(THREADS)
void grouped_query_attention_2_bf16(float *out, const float *q, const bf16 *k, const bf16 *v, int causal, int chunk,
                                    long long first, int B, int T, int S, int H, int K, int d) {
    attend(out, q, k, v, causal, chunk, first, T, S, H, K, d);
}
