// Attention of a few queries over many keys, as in decoding: split-KV, or FlashDecoding.  The keys are split over
// blocks, and a second kernel combines the blocks' results as if each were a tile of equation (online-softmax).
//
// One query of one head is too little work for a GPU, and one key head too few blocks.  So a block owns an interval of
// the keys of one key head and up to 8 rows (attention_shape.cuh): every key and every value is read from memory once,
// by one block, for all of them.  The plain form, for one row:
//
//     for each split of the keys: m[split], l[split], O[split] = as in attention_2.cu, of these keys alone
//     m = max(m[...]), l = sum(exp(m[split] - m) * l[split]), out = sum(exp(m[split] - m) * O[split]) / l
#include <math_constants.h>

#include "attention_shape.cuh"
#include "bf16.cuh"

enum { THREADS = 128, ROWS = 8, KEYS = 32 };  // a thread for each channel of a value; a lane for each key of a tile

// In a grid (splits, K * blocks of ROWS rows, B): the rows of this block ...
__device__ QueryRows own_rows(const AttentionShape &shape) {
    int b = blockIdx.z, kv_head = blockIdx.y % shape.K, begin = blockIdx.y / shape.K * ROWS;
    return {b, kv_head, begin, min(ROWS, shape.T * shape.G() - begin), 0, 0};
}

// ... and its split of the keys that they see, in whole tiles.
__device__ void split_keys(QueryRows &rows, const AttentionShape &shape) {
    int low = shape.first_key(rows.begin), high = shape.end_key(rows.begin + rows.count - 1);
    int length = ((high - low + gridDim.x - 1) / gridDim.x + KEYS - 1) / KEYS * KEYS;
    rows.key_begin = low + blockIdx.x * length;
    rows.key_end = min(high, rows.key_begin + length);
}

// Shared memory of the block.  P: first the scores, then their exponentials.
struct Shared {
    float q[ROWS][THREADS], P[ROWS][KEYS], rescale[ROWS];
};

// P (ROWS, KEYS) = q k^T of the keys from s on: eight lanes share a key and read 8 channels at a time
template <class Number>
__device__ void score_keys(float (&P)[ROWS][KEYS], const float (&q)[ROWS][THREADS], const Number *k,
                           const AttentionShape &shape, const QueryRows &rows, int s) {
    int lane = threadIdx.x % 32;
    for (int n = 0; n < KEYS / 16; n++) {
        int key = 16 * n + threadIdx.x / 8;
        const Number *k_row = k + shape.kv_row(rows.b, rows.kv_head, min(s + key, rows.key_end - 1)) * shape.d;
        float score[ROWS] = {};
        for (int i = lane % 8; i < shape.d; i += 8) {
            float k_i = to_float(k_row[i]);
            #pragma unroll
            for (int r = 0; r < ROWS; r++) score[r] += k_i * q[r][i];
        }
        #pragma unroll
        for (int r = 0; r < ROWS; r++) {
            for (int bit = 4; bit > 0; bit /= 2) score[r] += __shfl_xor_sync(0xffffffff, score[r], bit);
            if (lane % 8 == 0) P[r][key] = score[r];
        }
    }
}

// A warp's state for its rows, warp and warp + 4: the keys they see, largest score, this lane's share of the weights.
struct OnlineSoftmax {
    int key_begin[2], key_end[2];
    float m[2], l[2];
};

__device__ OnlineSoftmax start(const AttentionShape &shape, const QueryRows &rows) {
    OnlineSoftmax state;
    #pragma unroll
    for (int n = 0; n < 2; n++) {
        int row = rows.clamp_row(threadIdx.x / 32 + 4 * n);
        state.key_begin[n] = shape.first_key(row), state.key_end[n] = min(rows.key_end, shape.end_key(row));
        state.m[n] = -CUDART_INF_F, state.l[n] = 0.0f;
    }
    return state;
}

// P (ROWS, KEYS) = exp(P - m), zero for hidden keys, and the factor by which O is rescaled: one key per lane
__device__ void online_softmax_rows(OnlineSoftmax &state, float (&P)[ROWS][KEYS], float (&out_rescale)[ROWS], int s) {
    int lane = threadIdx.x % 32;
    #pragma unroll
    for (int n = 0; n < 2; n++) {
        int r = threadIdx.x / 32 + 4 * n, key = s + lane;
        bool is_visible = state.key_begin[n] <= key && key < state.key_end[n];
        float score = is_visible ? P[r][lane] : -CUDART_INF_F, m_new = fmaxf(state.m[n], score);
        for (int bit = 16; bit > 0; bit /= 2) m_new = fmaxf(m_new, __shfl_xor_sync(0xffffffff, m_new, bit));
        float base = m_new == -CUDART_INF_F ? 0.0f : m_new;  // this row has seen no key yet
        float rescale = expf(state.m[n] - base), p = expf(score - base);
        P[r][lane] = p, state.l[n] = state.l[n] * rescale + p, state.m[n] = m_new;
        if (lane == 0) out_rescale[r] = rescale;
    }
}

// O (ROWS) = O * rescale + P v of the keys from s on: one channel per thread
template <class Number>
__device__ void add_values(float (&O)[ROWS], const float (&P)[ROWS][KEYS], const float (&rescale)[ROWS],
                           const Number *v, const AttentionShape &shape, const QueryRows &rows, int s) {
    #pragma unroll
    for (int r = 0; r < ROWS; r++) O[r] *= rescale[r];
    const Number *column = v + shape.kv_row(rows.b, rows.kv_head, s) * shape.d + threadIdx.x;
    #pragma unroll 8
    for (int key = 0; key < min(KEYS, rows.key_end - s); key++) {
        float v_i = to_float(column[(size_t) key * shape.K * shape.d]);
        #pragma unroll
        for (int r = 0; r < ROWS; r++) O[r] += P[r][key] * v_i;
    }
}

// out (B, T, H, splits, d + 2): O, m, l of this block's rows and split
__device__ void write_partial(float *out, const float (&O)[ROWS], OnlineSoftmax state, const AttentionShape &shape,
                              const QueryRows &rows) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, channel = threadIdx.x, d = shape.d;
    auto partial = [&](int r) { return out + (rows.at(shape, r) * gridDim.x + blockIdx.x) * (d + 2); };
    #pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (r < rows.count && channel < d) partial(r)[channel] = O[r];
    #pragma unroll
    for (int n = 0; n < 2; n++) {
        float l = state.l[n], *row = partial(warp + 4 * n);
        for (int bit = 16; bit > 0; bit /= 2) l += __shfl_xor_sync(0xffffffff, l, bit);
        if (warp + 4 * n < rows.count && lane == 0) row[d] = state.m[n], row[d + 1] = l;
    }
}

template <class Number>
__device__ void flash_decoding(float *out, const float *q, const Number *k, const Number *v, AttentionShape shape) {
    __shared__ Shared shared;
    QueryRows rows = own_rows(shape);
    int channel = threadIdx.x, d = shape.d;
    for (int r = 0; r < ROWS; r++) {
        bool is_inside = r < rows.count && channel < d;
        shared.q[r][channel] = is_inside ? q[rows.at(shape, r) * d + channel] / sqrtf((float) d) : 0.0f;
    }

    split_keys(rows, shape);
    OnlineSoftmax state = start(shape, rows);
    float O[ROWS] = {};
    for (int s = rows.key_begin; s < rows.key_end; s += KEYS) {
        __syncthreads();  // q is complete, and P of the last tile is no longer in use
        score_keys(shared.P, shared.q, k, shape, rows, s);
        __syncthreads();  // all scores are complete
        online_softmax_rows(state, shared.P, shared.rescale, s);
        __syncthreads();  // P is complete
        if (channel < d) add_values(O, shared.P, shared.rescale, v, shape, rows, s);
    }
    write_partial(out, O, state, shape, rows);
}

// q (B, T, H, d), k and v (B, S, K, d)  ->  out (B, T, H, splits, d + 2): O, m and l of each split
extern "C" __global__ __launch_bounds__(THREADS)
void attention_split_kv(float *out, const float *q, const float *k, const float *v, int causal, int chunk,
                        long long kv_start, int B, int T, int S, int H, int K, int d) {
    flash_decoding(out, q, k, v, {causal, chunk, kv_start, T, S, H, K, d});
}

// The same for a cache in bfloat16.
extern "C" __global__ __launch_bounds__(THREADS)
void attention_split_kv_bf16(float *out, const float *q, const bf16 *k, const bf16 *v, int causal, int chunk,
                             long long kv_start, int B, int T, int S, int H, int K, int d) {
    flash_decoding(out, q, k, v, {causal, chunk, kv_start, T, S, H, K, d});
}

// One block combines the splits of one query and head:  partial (B * T * H, splits, d + 2)  ->  out (B * T * H, d)
extern "C" __global__ __launch_bounds__(THREADS)
void attention_combine(float *out, const float *partial, int splits, int d) {
    const float *row = partial + (size_t) blockIdx.x * splits * (d + 2);
    float m = -CUDART_INF_F, l = 0.0f, O = 0.0f;
    for (int p = 0; p < splits; p++) m = fmaxf(m, row[p * (d + 2) + d]);
    for (int p = 0; p < splits; p++) {
        float rescale = expf(row[p * (d + 2) + d] - m);
        l += rescale * row[p * (d + 2) + d + 1];
        if (threadIdx.x < d) O += rescale * row[p * (d + 2) + threadIdx.x];
    }
    if (threadIdx.x < d) out[(size_t) blockIdx.x * d + threadIdx.x] = O / l;
}
