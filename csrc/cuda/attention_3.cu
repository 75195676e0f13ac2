// Attention on tensor cores (FlashAttention-2): a block owns 128 rows of one key head, a warp 32 of them.
//
// Queries, keys, values and the result are bfloat16, sums float32.  One instruction (ptx.cuh, mma) multiplies 16 x 16
// by 16 x 8 elements, which are spread over the registers of a warp.  While the block works on a tile of keys, the next
// one is copied from global to shared memory, bypassing the registers.  Scores never leave the registers: the fragments
// d of the product with the keys are the fragments a of the product with the values.  The plain form is at the top of
// attention_2.cu.
#include <math_constants.h>

#include "attention_shape.cuh"
#include "ptx.cuh"

enum { THREADS = 128, ROWS = 128 };

constexpr float LOG2_E = 1.4426950408889634f;

// For heads of up to WIDTH channels, a compile-time constant, so that sums stay in registers.
template <int WIDTH> struct Tile {
    static constexpr int KEYS = WIDTH > 96 ? 48 : 64;  // limited by the registers
    static constexpr int PITCH = WIDTH + 8;  // 16 bytes more: the eight rows of a matrix begin in different banks
    static constexpr int SIZE = KEYS * PITCH;
};

// A warp's rows are 2 x 16 (m), and a lane has elements of rows 16 m + 8 h + lane / 4: m[m][h] is the largest score of
// such a row, l[m][h] this lane's share of the sum of its weights, O[m][n] the fragment d (ptx.cuh) of channels from
// 8 n on.
template <int WIDTH> struct OnlineSoftmax {
    float m[2][2], l[2][2], O[2][WIDTH / 8][4];
};

// The same for the scores of a tile of keys, or P: the fragment d of the 8 keys from 8 n on.
template <int WIDTH> using Scores = float[2][Tile<WIDTH>::KEYS / 8][4];

// This lane's row of those that the block owns.
__device__ inline int own_row(int m, int h) { return threadIdx.x / 32 * 32 + 16 * m + 8 * h + threadIdx.x % 32 / 4; }

// Start copying `rows` rows of d elements.  row(r): pointer to row r, or null for zeros.  fallback: any valid address.
template <int WIDTH, class Row>
__device__ void copy_rows_async(bf16 *tile, int rows, int d, const bf16 *fallback, Row row) {
    for (int c = threadIdx.x; c < rows * (WIDTH / 8); c += THREADS) {
        int r = c / (WIDTH / 8), i = c % (WIDTH / 8) * 8;
        const bf16 *from = row(r);
        bool is_inside = from && i < d;
        copy_async(tile + r * Tile<WIDTH>::PITCH + i, is_inside ? from + i : fallback, is_inside);
    }
}

// Start copying the block's rows of q ...
template <int WIDTH>
__device__ void copy_queries_async(bf16 *tile, const bf16 *q, const AttentionShape &shape, const QueryRows &rows) {
    copy_rows_async<WIDTH>(tile, ROWS, shape.d, q,
                           [&](int r) { return r < rows.count ? q + rows.at(shape, r) * shape.d : nullptr; });
}

// ... or the rows of k or v from key s on.
template <int WIDTH>
__device__ void copy_keys_async(bf16 *tile, const bf16 *k, const AttentionShape &shape, const QueryRows &rows, int s) {
    copy_rows_async<WIDTH>(tile, Tile<WIDTH>::KEYS, shape.d, k, [&](int r) {
        return s + r < rows.key_end ? k + shape.kv_row(rows.b, rows.kv_head, s + r) * shape.d : nullptr;
    });
}

// scores (32, KEYS) += q k^T of this warp's rows of q (ROWS, WIDTH) and k (KEYS, WIDTH)
template <int WIDTH> __device__ void scores_mma(Scores<WIDTH> &scores, const bf16 *q, const bf16 *k) {
    constexpr int KEYS = Tile<WIDTH>::KEYS, PITCH = Tile<WIDTH>::PITCH;
    #pragma unroll
    for (int c = 0; c < WIDTH / 16; c++) {  // sixteen channels at a time
        unsigned q_a[2][4];
        #pragma unroll
        for (int m = 0; m < 2; m++) load_fragment_a(q_a[m], q, PITCH, threadIdx.x / 32 * 32 + 16 * m, 16 * c);
        #pragma unroll
        for (int n = 0; n < KEYS / 16; n++) {
            unsigned k_b[4];
            load_fragment_b(k_b, k, PITCH, 16 * n, 16 * c);
            #pragma unroll
            for (int m = 0; m < 2; m++) {
                mma(scores[m][2 * n], q_a[m], k_b[0], k_b[1]);
                mma(scores[m][2 * n + 1], q_a[m], k_b[2], k_b[3]);
            }
        }
    }
}

// The scores of one row and the keys from s on: minus infinity outside of key_begin to key_end - 1.
template <int N> __device__ void mask_row(float (&scores)[N][4], int h, int s, int key_begin, int key_end) {
    int key = s + threadIdx.x % 4 * 2;
    #pragma unroll
    for (int n = 0; n < N; n++)
        #pragma unroll
        for (int e = 0; e < 2; e++)
            if (key + 8 * n + e < key_begin || key + 8 * n + e >= key_end) scores[n][2 * h + e] = -CUDART_INF_F;
}

// scores of row (m, h)  ->  P, in place; m, l and O rescaled for it.  unit: exp(score / sqrt(d)) = 2^(score * unit)
template <int WIDTH>
__device__ void online_softmax_row(OnlineSoftmax<WIDTH> &state, Scores<WIDTH> &scores, int m, int h, float unit) {
    constexpr int KEYS = Tile<WIDTH>::KEYS;
    float m_new = state.m[m][h];
    #pragma unroll
    for (int n = 0; n < KEYS / 8; n++) m_new = fmaxf(m_new, fmaxf(scores[m][n][2 * h], scores[m][n][2 * h + 1]));
    m_new = fmaxf(m_new, __shfl_xor_sync(0xffffffff, m_new, 1));  // four lanes share a row
    m_new = fmaxf(m_new, __shfl_xor_sync(0xffffffff, m_new, 2));
    float base = m_new == -CUDART_INF_F ? 0.0f : m_new * unit;  // this row has seen no key yet
    float rescale = exp2_fast(state.m[m][h] * unit - base);
    state.m[m][h] = m_new, state.l[m][h] *= rescale;
    #pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
        #pragma unroll
        for (int e = 0; e < 2; e++) {
            float &x = scores[m][n][2 * h + e];
            state.l[m][h] += x = exp2_fast(x * unit - base);
        }
    #pragma unroll
    for (int n = 0; n < WIDTH / 8; n++) state.O[m][n][2 * h] *= rescale, state.O[m][n][2 * h + 1] *= rescale;
}

// O (32, WIDTH) += P v of this warp's P (32, KEYS), rounded to bfloat16, and v (KEYS, WIDTH)
template <int WIDTH> __device__ void values_mma(OnlineSoftmax<WIDTH> &state, const Scores<WIDTH> &P, const bf16 *v) {
    #pragma unroll
    for (int c = 0; c < Tile<WIDTH>::KEYS / 16; c++) {  // sixteen keys at a time
        unsigned P_a[2][4];
        #pragma unroll
        for (int m = 0; m < 2; m++)
            #pragma unroll
            for (int i = 0; i < 4; i++)
                P_a[m][i] = pack_bf16x2(P[m][2 * c + i / 2][i % 2 * 2], P[m][2 * c + i / 2][i % 2 * 2 + 1]);
        #pragma unroll
        for (int n = 0; n < WIDTH / 16; n++) {
            unsigned v_b[4];
            load_fragment_b_transposed(v_b, v, Tile<WIDTH>::PITCH, 16 * c, 16 * n);
            #pragma unroll
            for (int m = 0; m < 2; m++) {
                mma(state.O[m][2 * n], P_a[m], v_b[0], v_b[1]);
                mma(state.O[m][2 * n + 1], P_a[m], v_b[2], v_b[3]);
            }
        }
    }
}

// out (ROWS, d) = O / l, through `tile`, where each warp's queries were, so that whole rows are written
template <int WIDTH>
__device__ void write_rows(bf16 *out, bf16 *tile, const OnlineSoftmax<WIDTH> &state, const AttentionShape &shape,
                           const QueryRows &rows) {
    constexpr int PITCH = Tile<WIDTH>::PITCH;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    #pragma unroll
    for (int m = 0; m < 2; m++)
        #pragma unroll
        for (int h = 0; h < 2; h++) {
            bf16 *row = tile + own_row(m, h) * PITCH + lane % 4 * 2;
            float l = state.l[m][h];
            l += __shfl_xor_sync(0xffffffff, l, 1);
            l += __shfl_xor_sync(0xffffffff, l, 2);
            #pragma unroll
            for (int n = 0; n < WIDTH / 8; n++)
                *(unsigned *) (row + 8 * n) = pack_bf16x2(state.O[m][n][2 * h] / l, state.O[m][n][2 * h + 1] / l);
        }
    __syncwarp();
    for (int c = lane; c < 32 * (WIDTH / 8); c += 32) {
        int r = warp * 32 + c / (WIDTH / 8), i = c % (WIDTH / 8) * 8;
        if (r < rows.count && i < shape.d)
            *(uint4 *) (out + rows.at(shape, r) * shape.d + i) = *(const uint4 *) (tile + r * PITCH + i);
    }
}

template <int WIDTH>
__device__ void flash_attention(bf16 *out, const bf16 *q, const bf16 *k, const bf16 *v, AttentionShape shape) {
    extern __shared__ __align__(16) bf16 q_tile[];
    constexpr int KEYS = Tile<WIDTH>::KEYS, SIZE = Tile<WIDTH>::SIZE;
    bf16 *k_tiles = q_tile + ROWS * Tile<WIDTH>::PITCH, *v_tiles = k_tiles + 2 * SIZE;  // one in use, one being copied
    QueryRows rows = own_query_rows<ROWS>(shape);
    __shared__ int key_begin[ROWS], key_end[ROWS];  // which keys a row sees
    int own = rows.clamp_row(threadIdx.x);
    key_begin[threadIdx.x] = shape.first_key(own), key_end[threadIdx.x] = shape.end_key(own);
    // All rows see the keys from all_begin to all_end - 1, and tiles among them need no mask.
    int all_begin = shape.first_key(rows.begin + rows.count - 1), all_end = shape.end_key(rows.begin);
    auto fetch = [&](int s, int half) {  // of k and v, the keys from s on
        copy_keys_async<WIDTH>(k_tiles + half * SIZE, k, shape, rows, s);
        copy_keys_async<WIDTH>(v_tiles + half * SIZE, v, shape, rows, s);
    };
    copy_queries_async<WIDTH>(q_tile, q, shape, rows);
    fetch(rows.key_begin, 0);
    copy_commit();

    OnlineSoftmax<WIDTH> state = {{{-CUDART_INF_F, -CUDART_INF_F}, {-CUDART_INF_F, -CUDART_INF_F}}};
    float unit = LOG2_E / sqrtf((float) shape.d);
    for (int s = rows.key_begin, half = 0; s < rows.key_end; s += KEYS, half ^= 1) {
        if (s + KEYS < rows.key_end) fetch(s + KEYS, half ^ 1);
        copy_commit();
        copy_wait<1>();   // all but the newest group: this tile has arrived
        __syncthreads();  // and so has what the other threads copied of it
        Scores<WIDTH> scores = {};
        scores_mma<WIDTH>(scores, q_tile, k_tiles + half * SIZE);
        bool is_masked = s < all_begin || s + KEYS > all_end;
        #pragma unroll
        for (int i = 0; i < 4; i++) {
            int m = i / 2, h = i % 2, row = own_row(m, h);
            if (is_masked) mask_row(scores[m], h, s, key_begin[row], key_end[row]);
            online_softmax_row<WIDTH>(state, scores, m, h, unit);
        }
        values_mma<WIDTH>(state, scores, v_tiles + half * SIZE);
        __syncthreads();  // this tile is no longer in use: it may be overwritten
    }
    write_rows<WIDTH>(out, q_tile, state, shape, rows);
}

// q (B, T, H, d), k and v (B, S, K, d) in bfloat16, d a multiple of 8 up to 64, 96 or 128  ->  out (B, T, H, d)
#define GROUPED_QUERY_ATTENTION_3(WIDTH) \
    extern "C" __global__ __launch_bounds__(THREADS) \
    void grouped_query_attention_3_##WIDTH(bf16 *out, const bf16 *q, const bf16 *k, const bf16 *v, int causal, \
                                           int chunk, long long kv_start, int B, int T, int S, int H, int K, int d) { \
        flash_attention<WIDTH>(out, q, k, v, {causal, chunk, kv_start, T, S, H, K, d}); \
    }
GROUPED_QUERY_ATTENTION_3(64)
GROUPED_QUERY_ATTENTION_3(96)
GROUPED_QUERY_ATTENTION_3(128)
