// The gradients of attention, equation (gqa-backward): the weights P are recomputed for a block of queries at a time.
//
// A thread takes all queries of one key head in one chunk, so that a key's gradient is summed by one thread.  For one
// block of query rows, in the notation of the FlashAttention papers:
//
//     P = softmax(q k^T / sqrt(d))        dP = dy v^T        D = rowsum(P * dP)        dS = P * (dP - D) / sqrt(d)
//     dq = dS k        dk += dS^T q       dv += P^T dy
#include "threads.h"

#include <math.h>

#include "attention_shape.h"
#include "gemm_tile.h"
#include "memory.h"
#include "row_ops.h"

enum { SCORES_PER_BLOCK = 1 << 15, MIN_ROWS = 16, MAX_ROWS = 64 };  // query rows; scores stay in the L1 and L2 cache

// One key head's keys and values packed for all products, their gradients, and one block of query rows.
typedef struct {
    float *k_in, *v_in;                   // panels of keys: (d, NR) each, to multiply queries with
    float *k_out;                         // panels of channels: (keys, NR) each, to multiply dS with
    float *dk, *dv;                       // (keys, d_padded)
    float *q, *dy;                        // (rows, d)
    float *q_out, *dy_out;                // one panel of them at a time: (rows, NR)
    float *P, *dS;                        // (rows, pitch): weights; dP, then dS
    float *dq;                            // (rows, d_padded)
    int d, pitch, d_padded, keys_padded;  // the last two: rounded up to full panels
} workspace;

static workspace workspace_in(arena *a, int keys, int rows, int d) {
    workspace w = {.d = d, .d_padded = round_up(d, NR), .keys_padded = round_up(keys, NR)};
    w.pitch = w.keys_padded + LANES;  // not a power of two: rows would share cache sets
    size_t n_keys = (size_t) w.keys_padded, n = (size_t) rows, d_padded = (size_t) w.d_padded;
    w.k_in = carve_floats(a, n_keys * (size_t) d), w.v_in = carve_floats(a, n_keys * (size_t) d);
    w.k_out = carve_floats(a, n_keys * d_padded);
    w.dk = carve_floats(a, n_keys * d_padded), w.dv = carve_floats(a, n_keys * d_padded);
    w.q = carve_floats(a, n * (size_t) d), w.dy = carve_floats(a, n * (size_t) d);
    w.q_out = carve_floats(a, n * d_padded), w.dy_out = carve_floats(a, n * d_padded);
    w.dq = carve_floats(a, n * d_padded);
    w.P = carve_floats(a, n * (size_t) w.pitch), w.dS = carve_floats(a, n * (size_t) w.pitch);
    return w;
}

// Pack keys and values (keys, d), with rows `step` elements apart, into panels.
static void pack_keys(workspace *w, const float *k, const float *v, int keys, ptrdiff_t step) {
    int d = w->d;
    for (int s = 0; s < keys; s += NR) {
        pack_panel(w->k_in + (size_t) s * d, columns_view(k + s * step, step), d, keys - s);
        pack_panel(w->v_in + (size_t) s * d, columns_view(v + s * step, step), d, keys - s);
    }
    for (int c = 0; c < d; c += NR)
        pack_panel(w->k_out + (size_t) c * w->keys_padded, rows_view(k + c, step), keys, d - c);
    memset(w->dk, 0, sizeof(float) * (size_t) w->keys_padded * w->d_padded);
    memset(w->dv, 0, sizeof(float) * (size_t) w->keys_padded * w->d_padded);
}

// One row: scores q k^T in P and dP in dS, of which the first `visible` of n are valid  ->  P and dS
//
// D is the mean of dP under the rounded weights: if one weight is 1 and the others round to 0, its dS is exactly 0
// instead of a rounding error.
static void softmax_backward_row(float *P, float *dS, float root, int visible, int n) {
    memset(dS + visible, 0, sizeof(float) * (size_t) (n - visible));
    for (int s = 0; s < visible; s++) P[s] *= root;
    float inverse = (float) (1.0 / row_exp(P, P, row_max(P, visible), visible)), D = 0.0f;
    memset(P + visible, 0, sizeof(float) * (size_t) (n - visible));
    for (int s = 0; s < n; s += KC) {
        vec sums = {0};
        for (int c = s; c < s + KC && c < n; c += LANES) {
            vec weight = load(P + c) * inverse;
            store(P + c, weight);
            sums += weight * load(dS + c);
        }
        D += reduce_add(sums);
    }
    for (int s = 0; s < visible; s++) dS[s] = P[s] * (dS[s] - D) * root;
}

// P and dS (rows, n), n = `keys` padded.  The first query sees `visible` keys, each later one sees one more if causal.
static void weights_and_gradients(workspace *w, int rows, int keys, int visible, int causal, int G) {
    int d = w->d, n = round_up(keys, NR);
    float root = 1.0f / sqrtf((float) d);
    for (int i = 0; i < rows; i++) {
        memset(w->P + (size_t) i * w->pitch, 0, sizeof(float) * (size_t) n);
        memset(w->dS + (size_t) i * w->pitch, 0, sizeof(float) * (size_t) n);
    }
    for (int s = 0; s < keys; s += NR) {
        gemm_tile(w->P + s, w->pitch, w->q, d, w->k_in + (size_t) s * d, rows, d, NULL);
        gemm_tile(w->dS + s, w->pitch, w->dy, d, w->v_in + (size_t) s * d, rows, d, NULL);
    }
    for (int i = 0; i < rows; i++)
        softmax_backward_row(w->P + (size_t) i * w->pitch, w->dS + (size_t) i * w->pitch, root,
                             visible + (causal ? i / G : 0), n);
}

// The block in w->q and w->dy: `rows` rows of G heads, of which the first sees `visible` keys  ->  dq, and += dk, dv
static void backward_block(workspace *w, int rows, int visible, int causal, int G) {
    int d = w->d, keys = visible + (causal ? rows / G - 1 : 0);
    // P (rows, keys) and dS (rows, keys)
    weights_and_gradients(w, rows, keys, visible, causal, G);
    memset(w->dq, 0, sizeof(float) * (size_t) rows * w->d_padded);
    for (int c = 0; c < d; c += NR) {
        // dq (rows, d) = dS k
        for (int s = 0; s < keys; s += KC)
            gemm_tile(w->dq + c, w->d_padded, w->dS + s, w->pitch,
                      w->k_out + (size_t) c * w->keys_padded + (size_t) s * NR, rows, min_int(keys - s, KC), NULL);
        // dk (keys, d) += dS^T q, dv (keys, d) += P^T dy
        pack_panel(w->q_out, rows_view(w->q + c, d), rows, d - c);
        pack_panel(w->dy_out, rows_view(w->dy + c, d), rows, d - c);
        gemm_tile_t(w->dk + c, w->d_padded, w->dS, w->pitch, w->q_out, keys, rows, NULL);
        gemm_tile_t(w->dv + c, w->d_padded, w->P, w->pitch, w->dy_out, keys, rows, NULL);
    }
}

typedef struct {
    float *out_q, *out_k, *out_v;
    const float *dy, *q, *k, *v;
} attention_arrays;

// The queries begin to end - 1 of sequence b, which all start at the same key, for all heads of key head `head`.
static void backward_chunk(workspace *w, const attention_arrays *x, const attention_shape *a, int max_queries, int b,
                           int begin, int end, int head) {
    int G = group_size(a), d = a->d, low = first_visible(a, begin), keys = end_visible(a, end - 1) - low;
    size_t row = sizeof(float) * (size_t) d, key = key_offset(a, b, low, head), step = (size_t) a->K * d;
    pack_keys(w, x->k + key, x->v + key, keys, (ptrdiff_t) step);
    for (int t = begin; t < end; t += max_queries) {
        int rows = min_int(end - t, max_queries) * G;
        for (int i = 0; i < rows; i++) {
            size_t query = query_offset(a, b, t, head, i);
            memcpy(w->q + (size_t) i * d, x->q + query, row);
            memcpy(w->dy + (size_t) i * d, x->dy + query, row);
        }
        backward_block(w, rows, end_visible(a, t) - low, a->causal, G);
        for (int i = 0; i < rows; i++)
            memcpy(x->out_q + query_offset(a, b, t, head, i), w->dq + (size_t) i * w->d_padded, row);
    }
    for (int s = 0; s < keys; s++) {
        memcpy(x->out_k + key + s * step, w->dk + (size_t) s * w->d_padded, row);
        memcpy(x->out_v + key + s * step, w->dv + (size_t) s * w->d_padded, row);
    }
}

// dy and q (B, T, H, d), k and v (B, S, K, d)  ->  out_q (B, T, H, d), out_k and out_v (B, S, K, d)
void grouped_query_attention_backward(float *out_q, float *out_k, float *out_v, const float *dy, const float *q,
                                      const float *k, const float *v, int causal, int chunk, int64_t kv_start, int B,
                                      int T, int S, int H, int K, int d) {
    attention_shape a = {causal, chunk, kv_start, B, T, S, H, K, d};
    attention_arrays arrays = {out_q, out_k, out_v, dy, q, k, v};
    int64_t start = query_position(&a, 0);
    int is_chunked = causal && chunk, chunks = is_chunked ? (int) ((start + T - 1) / chunk - start / chunk) + 1 : 1;
    int keys = is_chunked && chunk < S ? chunk : S, rows = SCORES_PER_BLOCK / round_up(keys, NR), G = H / K;
    rows = rows < MIN_ROWS ? MIN_ROWS : rows > MAX_ROWS ? MAX_ROWS : rows;
    int max_queries = rows > G ? rows / G : 1;
    arena count = {0};
    workspace_in(&count, keys, max_queries * G, d);
    arena memory = allocate(count.used * max_threads());
    if (!memory.base) return;
    memset(out_k, 0, sizeof(float) * (size_t) B * S * K * d);  // for keys of chunks without queries
    memset(out_v, 0, sizeof(float) * (size_t) B * S * K * d);
    claimed_cpus cpus = {0};
    #pragma omp parallel if ((size_t) B * T * S * H * d > PARALLEL_MIN)
    {
        move_to_free_core(&cpus);
        arena part = arena_part(&memory, count.used, thread_index());
        workspace w = workspace_in(&part, keys, max_queries * G, d);
        #pragma omp for schedule(dynamic) collapse(3)
        for (int b = 0; b < B; b++)
            for (int i = 0; i < chunks; i++)
                for (int head = 0; head < K; head++) {
                    int64_t begin = is_chunked ? (start / chunk + i) * chunk - start : 0;
                    int64_t end = is_chunked ? begin + chunk : T;
                    backward_chunk(&w, &arrays, &a, max_queries, b, begin > 0 ? (int) begin : 0,
                                   end < T ? (int) end : T, head);
                }
    }
    release(&memory);
}
