// Attention on tensor cores: a block owns 128 rows of one key head, and each of its four warps 32 of them.
//
// Queries, keys, values and the result are bfloat16, sums float32.  One instruction (ptx.cuh, mma) multiplies 16 x 16 by
// 16 x 8 numbers that are spread over the registers of a warp.  While it works on a tile of keys, the next is on its
// way from global to shared memory, past the registers.  Scores never leave the registers: what mma puts out for the product
// with the keys lies just as it wants its input for the product with the values.
#include <math_constants.h>

#include "mask.cuh"
#include "ptx.cuh"

enum { THREADS = 128, ROWS = 128 };

// Begin to copy `most` rows of d numbers, zeros where there is no row or no channel.
template <int WIDE, class Row> __device__ void stage(bf16 *tile, int most, int d, const bf16 *any, Row row) {
    for (int c = threadIdx.x; c < most * (WIDE / 8); c += THREADS) {
        int r = c / (WIDE / 8), i = c % (WIDE / 8) * 8;
        const bf16 *from = row(r);
        bool there = from && i < d;
        copy_async(tile + r * (WIDE + 8) + i, there ? from + i : any, there);
    }
}

// WIDE: d rounded up, so that the sums can stay in registers, which have no index.
template <int WIDE>
__device__ void attend(bf16 *out, const bf16 *q, const bf16 *k, const bf16 *v, int causal, int chunk,
                       long long first, int T, int S, int H, int K, int d) {
    extern __shared__ __align__(16) bf16 memory[];
    constexpr int KEYS = WIDE > 96 ? 48 : 64;       // in a tile: no more than the registers have room for
    constexpr int PITCH = WIDE + 8;                 // 16 bytes more: the eight rows of a matrix begin in different banks
    bf16 *queries = memory, *keys = queries + ROWS * PITCH, *values = keys + 2 * KEYS * PITCH;  // one in use, one on its way
    int G = H / K, head = blockIdx.y, b = blockIdx.z, begin = (gridDim.x - 1 - blockIdx.x) * ROWS;      // the longest first
    int count = min(ROWS, T * G - begin), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    auto place = [&](int r) { return (((size_t) b * T + (begin + r) / G) * H + head * G + (begin + r) % G) * d; };
    __shared__ int from[ROWS], to[ROWS];            // which keys a row sees
    int mine = (begin + min((int) threadIdx.x, count - 1)) / G;
    from[threadIdx.x] = seen_from(mine, causal, chunk, first, T, S), to[threadIdx.x] = seen_to(mine, causal, T, S);
    int low = seen_from(begin / G, causal, chunk, first, T, S), high = seen_to((begin + count - 1) / G, causal, T, S);
    // All rows see the keys from all_from to all_to - 1, and tiles among them need no mask.
    int all_from = seen_from((begin + count - 1) / G, causal, chunk, first, T, S), all_to = seen_to(begin / G, causal, T, S);
    auto fetch = [&](int s, int half) {
        auto row = [&](const bf16 *a, int r) {
            return s + r < high ? a + (((size_t) b * S + s + r) * K + head) * d : nullptr;
        };
        stage<WIDE>(keys + half * KEYS * PITCH, KEYS, d, k, [&](int r) { return row(k, r); });
        stage<WIDE>(values + half * KEYS * PITCH, KEYS, d, v, [&](int r) { return row(v, r); });
    };
    stage<WIDE>(queries, ROWS, d, q, [&](int r) { return r < count ? q + place(r) : nullptr; });
    fetch(low, 0);
    copy_commit();

    // A lane holds parts of rows 16 m + 8 h + lane / 4 of its warp's 32, in columns 8 n + lane % 4 * 2 and the next.
    float most[2][2] = {{-CUDART_INF_F, -CUDART_INF_F}, {-CUDART_INF_F, -CUDART_INF_F}};
    float total[2][2] = {}, sum[2][WIDE / 8][4] = {};
    float unit = 1.4426950408889634f / sqrtf((float) d);        // exp(x / root of d) = 2 to the power of x * unit

    for (int s = low, half = 0; s < high; s += KEYS, half ^= 1) {
        if (s + KEYS < high) fetch(s + KEYS, half ^ 1);
        copy_commit();
        copy_wait<1>();                             // all but the newest group: this tile is here
        __syncthreads();                            // and what the other threads copied of it, too
        const bf16 *key = keys + half * KEYS * PITCH, *value = values + half * KEYS * PITCH;

        float score[2][KEYS / 8][4] = {};
        #pragma unroll
        for (int c = 0; c < WIDE / 16; c++) {       // sixteen channels at a time
            unsigned of_q[2][4];
            #pragma unroll
            for (int m = 0; m < 2; m++)
                ldmatrix(of_q[m], queries + (warp * 32 + 16 * m + lane % 16) * PITCH + 16 * c + lane / 16 * 8);
            #pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                unsigned of_k[4];
                ldmatrix(of_k, key + (16 * n + lane / 16 * 8 + lane % 8) * PITCH + 16 * c + lane / 8 % 2 * 8);
                #pragma unroll
                for (int m = 0; m < 2; m++) {
                    mma(score[m][2 * n], of_q[m], of_k[0], of_k[1]);
                    mma(score[m][2 * n + 1], of_q[m], of_k[2], of_k[3]);
                }
            }
        }
        bool masked = s < all_from || s + KEYS > all_to;
        #pragma unroll
        for (int m = 0; m < 2; m++)
            #pragma unroll
            for (int h = 0; h < 2; h++) {
                if (masked) {
                    int row = warp * 32 + 16 * m + 8 * h + lane / 4, column = s + lane % 4 * 2;
                    #pragma unroll
                    for (int n = 0; n < KEYS / 8; n++)
                        #pragma unroll
                        for (int e = 0; e < 2; e++)
                            if (column + 8 * n + e < from[row] || column + 8 * n + e >= to[row])
                                score[m][n][2 * h + e] = -CUDART_INF_F;
                }
                float top = most[m][h];
                #pragma unroll
                for (int n = 0; n < KEYS / 8; n++) top = fmaxf(top, fmaxf(score[m][n][2 * h], score[m][n][2 * h + 1]));
                top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 1));          // four lanes share a row
                top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, 2));
                float base = top == -CUDART_INF_F ? 0.0f : top * unit;          // a row that has seen nothing yet
                float before = exp2_fast(most[m][h] * unit - base);
                most[m][h] = top, total[m][h] *= before;
                #pragma unroll
                for (int n = 0; n < KEYS / 8; n++)
                    #pragma unroll
                    for (int e = 0; e < 2; e++) {
                        float &x = score[m][n][2 * h + e];
                        total[m][h] += x = exp2_fast(x * unit - base);
                    }
                #pragma unroll
                for (int n = 0; n < WIDE / 8; n++) sum[m][n][2 * h] *= before, sum[m][n][2 * h + 1] *= before;
            }
        #pragma unroll
        for (int c = 0; c < KEYS / 16; c++) {       // sixteen keys at a time
            unsigned weight[2][4];
            #pragma unroll
            for (int m = 0; m < 2; m++)
                #pragma unroll
                for (int i = 0; i < 4; i++)
                    weight[m][i] = rounded_pair(score[m][2 * c + i / 2][i % 2 * 2], score[m][2 * c + i / 2][i % 2 * 2 + 1]);
            #pragma unroll
            for (int n = 0; n < WIDE / 16; n++) {
                unsigned of_v[4];
                ldmatrix_transposed(of_v, value + (16 * c + lane % 16) * PITCH + 16 * n + lane / 16 * 8);
                #pragma unroll
                for (int m = 0; m < 2; m++) {
                    mma(sum[m][2 * n], weight[m], of_v[0], of_v[1]);
                    mma(sum[m][2 * n + 1], weight[m], of_v[2], of_v[3]);
                }
            }
        }
        __syncthreads();                            // nobody reads this tile any more: it may be overwritten
    }

    // The result goes through shared memory, each warp's where its queries were, so that it leaves in whole rows.
    #pragma unroll
    for (int m = 0; m < 2; m++)
        #pragma unroll
        for (int h = 0; h < 2; h++) {
            float all = total[m][h];
            all += __shfl_xor_sync(0xffffffff, all, 1);
            all += __shfl_xor_sync(0xffffffff, all, 2);
            #pragma unroll
            for (int n = 0; n < WIDE / 8; n++)
                *(unsigned *) (queries + (warp * 32 + 16 * m + 8 * h + lane / 4) * PITCH + 8 * n + lane % 4 * 2) =
                    rounded_pair(sum[m][n][2 * h] / all, sum[m][n][2 * h + 1] / all);
        }
    __syncwarp();
    for (int c = lane; c < 32 * (WIDE / 8); c += 32) {
        int r = warp * 32 + c / (WIDE / 8), i = c % (WIDE / 8) * 8;
        if (r < count && i < d) *(uint4 *) (out + place(r) + i) = *(const uint4 *) (queries + r * PITCH + i);
    }
}

// q (B, T, H, d), k and v (B, S, K, d) in bfloat16, d a multiple of 8 up to 64, 96 or 128  ->  out (B, T, H, d)
#define WIDTH(N) \
extern "C" __global__ __launch_bounds__(THREADS) \
void grouped_query_attention_3_##N(bf16 *out, const bf16 *q, const bf16 *k, const bf16 *v, int causal, int chunk, \
                                   long long first, int B, int T, int S, int H, int K, int d) { \
    attend<N>(out, q, k, v, causal, chunk, first, T, S, H, K, d); \
}
WIDTH(64)
WIDTH(96)
WIDTH(128)
