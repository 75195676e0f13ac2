// The gradients of attention, equation (gqa-backward): the weights are computed again for some queries at a time.
//
// A thread takes all queries of one key head in one chunk, so that what comes back to a key has one place to be summed.
#include "threads.h"

#include <math.h>

#include "memory.h"
#include "row.h"
#include "tile.h"

enum { WEIGHTS = 1 << 15, LEAST = 16, MOST = 64 };      // weights of a block, in the nearer caches; rows it has at least, at most

// One key head's keys and values packed for all products, what comes back to them, and one block of its queries.
typedef struct {
    float *k_in, *v_in;         // panels of keys: (d, PANEL) each, to multiply queries with
    float *k_out;               // panels of channels: (keys, PANEL) each, to multiply weights with
    float *dk, *dv;             // (keys, width), width: d rounded up to whole panels
    float *q, *dy;              // (rows, d)
    float *q_out, *dy_out;      // the same in panels of channels
    float *weight, *slope;      // (rows, pitch): weights, and what the loss gains per unit of a score
    float *dq;                  // (rows, width)
    int pitch, width, room;     // room: keys rounded up to whole panels
} work;

static inline int panels(int n) { return (n + PANEL - 1) / PANEL * PANEL; }

static work work_in(arena *a, int keys, int rows, int d) {
    work w = {.width = panels(d), .room = panels(keys)};
    w.pitch = w.room + LANES;                           // no power of two: rows do not share the same places in a cache
    size_t room = (size_t) w.room, width = (size_t) w.width, n = (size_t) rows;
    w.k_in = carve_floats(a, room * (size_t) d), w.v_in = carve_floats(a, room * (size_t) d);
    w.k_out = carve_floats(a, room * width);
    w.dk = carve_floats(a, room * width), w.dv = carve_floats(a, room * width);
    w.q = carve_floats(a, n * (size_t) d), w.dy = carve_floats(a, n * (size_t) d);
    w.q_out = carve_floats(a, n * width), w.dy_out = carve_floats(a, n * width), w.dq = carve_floats(a, n * width);
    w.weight = carve_floats(a, n * (size_t) w.pitch), w.slope = carve_floats(a, n * (size_t) w.pitch);
    return w;
}

// Keys and values (keys, d), a row every `step` numbers, into panels.
static void pack_keys(work *w, const float *k, const float *v, int keys, ptrdiff_t step, int d) {
    for (int s = 0; s < keys; s += PANEL) {
        pack(w->k_in + (size_t) s * d, k, F32, s * step, 1, step, d, keys - s);
        pack(w->v_in + (size_t) s * d, v, F32, s * step, 1, step, d, keys - s);
    }
    for (int c = 0; c < d; c += PANEL) pack(w->k_out + (size_t) c * w->room, k, F32, c, step, 1, keys, d - c);
    memset(w->dk, 0, sizeof(float) * (size_t) w->room * w->width);
    memset(w->dv, 0, sizeof(float) * (size_t) w->room * w->width);
}

// A row of products with keys and what comes down to its weights, of which the first `seen` count  ->  weights and slopes
//
// The mean is taken with the weights as they are rounded: where one of them is 1 and the rest too small to be seen beside
// it, nothing is left of its slope, and no rounding error instead.
static void soften_back(float *weight, float *slope, float root, int seen, int room) {
    memset(slope + seen, 0, sizeof(float) * (size_t) (room - seen));
    for (int s = 0; s < seen; s++) weight[s] *= root;
    float inverse = (float) (1.0 / row_exp(weight, weight, row_max(weight, seen), seen)), mean = 0.0f;
    memset(weight + seen, 0, sizeof(float) * (size_t) (room - seen));
    for (int s = 0; s < room; s += DEPTH) {
        vec sums = {0};
        for (int c = s; c < s + DEPTH && c < room; c += LANES) {
            vec w = load(weight + c) * inverse;
            store(weight + c, w);
            sums += w * load(slope + c);
        }
        mean += sum_lanes(sums);
    }
    for (int s = 0; s < seen; s++) slope[s] = weight[s] * (slope[s] - mean) * root;
}

// The block that stands in q and dy: `rows` rows of G heads, of which the first sees `seen` keys and each query one more
// (causal) or as many  ->  dq, and what comes back to the keys is added to dk and dv
static void block(work *w, int rows, int seen, int causal, int G, int d) {
    float root = 1.0f / sqrtf((float) d);
    int all_seen = seen + (causal ? rows / G - 1 : 0), room = panels(all_seen);
    for (int i = 0; i < rows; i++) {
        memset(w->weight + (size_t) i * w->pitch, 0, sizeof(float) * (size_t) room);
        memset(w->slope + (size_t) i * w->pitch, 0, sizeof(float) * (size_t) room);
    }
    for (int s = 0; s < all_seen; s += PANEL) {
        tile(w->weight + s, w->pitch, w->q, d, w->k_in + (size_t) s * d, rows, d, NULL);
        tile(w->slope + s, w->pitch, w->dy, d, w->v_in + (size_t) s * d, rows, d, NULL);
    }
    for (int i = 0; i < rows; i++)
        soften_back(w->weight + (size_t) i * w->pitch, w->slope + (size_t) i * w->pitch, root,
                    seen + (causal ? i / G : 0), room);
    memset(w->dq, 0, sizeof(float) * (size_t) rows * w->width);
    for (int c = 0; c < d; c += PANEL) {
        for (int s = 0; s < all_seen; s += DEPTH)
            tile(w->dq + c, w->width, w->slope + s, w->pitch, w->k_out + (size_t) c * w->room + (size_t) s * PANEL, rows,
                 all_seen - s < DEPTH ? all_seen - s : DEPTH, NULL);
        pack(w->q_out, w->q, F32, c, d, 1, rows, d - c);
        pack(w->dy_out, w->dy, F32, c, d, 1, rows, d - c);
        tile_turned(w->dk + c, w->width, w->slope, w->pitch, w->q_out, all_seen, rows, NULL);
        tile_turned(w->dv + c, w->width, w->weight, w->pitch, w->dy_out, all_seen, rows, NULL);
    }
}

// The queries begin to end - 1 of one sequence, `most` at a time, and the heads of key head `head`: they see keys from `low` on.
static void queries(work *w, float *out_q, float *out_k, float *out_v, const float *dy, const float *q, const float *k, const float *v,
                    int causal, int most, int b, int begin, int end, int low, int head, int T, int S, int H, int K, int d) {
    int G = H / K, keys = (causal ? S - T + end : S) - low;
    size_t first = (((size_t) b * S + low) * K + head) * d, step = (size_t) K * d;
    pack_keys(w, k + first, v + first, keys, (ptrdiff_t) step, d);
    for (int t = begin; t < end; t += most) {
        int n = end - t < most ? end - t : most;
        for (int i = 0; i < n * G; i++) {
            size_t at = (((size_t) b * T + t + i / G) * H + (size_t) head * G + i % G) * d;
            memcpy(w->q + (size_t) i * d, q + at, sizeof(float) * (size_t) d);
            memcpy(w->dy + (size_t) i * d, dy + at, sizeof(float) * (size_t) d);
        }
        block(w, n * G, causal ? S - T + t + 1 - low : keys, causal, G, d);
        for (int i = 0; i < n * G; i++) {
            size_t at = (((size_t) b * T + t + i / G) * H + (size_t) head * G + i % G) * d;
            memcpy(out_q + at, w->dq + (size_t) i * w->width, sizeof(float) * (size_t) d);
        }
    }
    for (int s = 0; s < keys; s++) {
        memcpy(out_k + first + s * step, w->dk + (size_t) s * w->width, sizeof(float) * (size_t) d);
        memcpy(out_v + first + s * step, w->dv + (size_t) s * w->width, sizeof(float) * (size_t) d);
    }
}

// dy and q (B, T, H, d), k and v (B, S, K, d)  ->  out_q (B, T, H, d), out_k and out_v (B, S, K, d)
void grouped_query_attention_backward(float *out_q, float *out_k, float *out_v, const float *dy, const float *q, const float *k,
                                      const float *v, int causal, int chunk, int64_t first, int B, int T, int S, int H, int K,
                                      int d) {
    int64_t start = first + S - T;                      // the first query's position
    int chunked = causal && chunk, chunks = chunked ? (int) ((start + T - 1) / chunk - start / chunk) + 1 : 1;
    int keys = chunked && chunk < S ? chunk : S, rows = WEIGHTS / panels(keys);
    rows = rows < LEAST ? LEAST : rows > MOST ? MOST : rows;
    int most = rows > H / K ? rows / (H / K) : 1;
    arena count = {0};
    work_in(&count, keys, most * (H / K), d);
    arena memory = allocate(count.used * most_threads());
    if (!memory.base) return;
    memset(out_k, 0, sizeof(float) * (size_t) B * S * K * d);               // keys of chunks that have no query
    memset(out_v, 0, sizeof(float) * (size_t) B * S * K * d);
    taken cpus = {0};
    #pragma omp parallel if ((size_t) B * T * S * H * d > SMALL)
    {
        spread(&cpus);
        arena part = arena_part(&memory, count.used, thread());
        work w = work_in(&part, keys, most * (H / K), d);
        #pragma omp for schedule(dynamic) collapse(3)
        for (int b = 0; b < B; b++)
            for (int i = 0; i < chunks; i++)
                for (int head = 0; head < K; head++) {
                    int64_t from = chunked ? (start / chunk + i) * chunk : 0, to = chunked ? from + chunk : start + T;
                    int begin = chunked && from > start ? (int) (from - start) : 0, end = to < start + T ? (int) (to - start) : T;
                    queries(&w, out_q, out_k, out_v, dy, q, k, v, causal, most, b, begin, end,
                            from > first ? (int) (from - first) : 0, head, T, S, H, K, d);
                }
    }
    release(&memory);
}
