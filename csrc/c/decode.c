// One token through all layers, without returning to Python between the operations.
//
// attention_block, feed_forward_block and encode_positions mirror the functions of the same names in the Python text
// model, with the operations of the reference: rms_norm, apply_rope, grouped_query_attention, router, experts, swiglu,
// quantize_rows.  The laws and tests/kernels/test_decode.py compare both.
//
// There is one parallel region for the whole token.  Every thread computes its share of the outputs of each matrix.
// Every thread repeats the small operations (a norm, a gate, quantizing a row), which is cheaper than waiting for
// another thread.  The rows that the threads write for each other are in `shared_scratch`, and a barrier follows each
// time they are complete.
#include "barrier.h"

#include "decode_scratch.h"
#include "kv_store.h"
#include "matvec.h"

typedef struct {
    int64_t position;
    const float *cos, *sin;  // (d/2)
    float temperature;       // of the query in a global layer
} token;

// The threads that compute a token together, and which of them this one is.
typedef struct {
    barrier *barrier;
    int part, parts;
} team;

// The state of one thread.
typedef struct {
    const decoder *model;
    const token *token;
    float *x;  // (D): the token's vector, updated by every layer
    const shared_scratch *shared;
    const thread_scratch *all_scratch;  // (parts)
    const thread_scratch *scratch;      // all_scratch[team.part]
    team team;
} worker;

static void wait_for_team(const worker *w) { barrier_wait(w->team.barrier, w->team.parts); }

int64_t decode_scratch_floats(const decoder *model) {
    arena count = {0};
    shared_scratch_in(&count, model);
    for (int part = 0; part < max_threads(); part++) thread_scratch_in(&count, model);
    return (int64_t) ((count.used + CACHE_LINE) / sizeof(float));
}

// Row c (I) of this thread's inputs: in float32, and also quantized if a matrix needs that.
static float *input_row(const worker *w, int c) { return w->scratch->rows + (size_t) c * max_width(w->model); }
static void quantize_input(const worker *w, int c, int I, int is_quantized) {
    if (is_quantized) quantize_row_q8(&w->scratch->rows_q8[c], input_row(w, c), I);
}

// A range of outputs for a single input row: with N = 1 constant, the compiler drops the loops over rows.
NOINLINE void multiply_quantized(matvec p, range r) {
    p.N = 1;
    q_matmul_range(&p, r);
}
NOINLINE void multiply_plain(matvec p, range r) {
    p.N = 1;
    matvec_range(&p, r);
}

// A range of outputs of  out (O) = input row c (I) times w.
static void multiply_range(const worker *t, float *out, int c, const matrix *w, int expert, int I, int O, range r) {
    matvec p = {out, input_row(t, c), &t->scratch->rows_q8[c], w, expert, 1, I, O};
    if (w->scales) multiply_quantized(p, r);
    else multiply_plain(p, r);
}

// The same for all outputs that this thread can claim.
static void multiply(const worker *t, float *out, const matrix *w, int expert, int I, int O, atomic_int *claimed) {
    for (range r; claim_outputs(claimed, w, I, O, &r);) multiply_range(t, out, 0, w, expert, I, O, r);
}

// Rotate and normalize some heads, or scale them by the temperature in a layer without RoPE.
static void encode_positions(float *x, int heads, const worker *w, const layer *l, float temperature) {
    const decoder *model = w->model;
    if (l->rope) apply_rope(x, x, w->token->cos, w->token->sin, 1, 1, heads, model->d);
    if (l->rope && model->qk_norm) rms_norm(x, x, NULL, model->eps, heads, model->d);
    for (int i = 0; i < heads * model->d && !l->rope; i++) x[i] *= temperature;
}

// The keys that this thread reads: full blocks of the keys that are visible to the token.
static range key_range_of_thread(const layer *l, int64_t position, team t) {
    int end = (int) (position - l->kv_start) + 1;
    int64_t chunk_begin = l->chunk ? position / l->chunk * l->chunk - l->kv_start : 0;
    int begin = chunk_begin > 0 ? (int) chunk_begin : 0, blocks = (end - begin + KEYS - 1) / KEYS;
    int own_end = begin + (int) ((long) blocks * (t.part + 1) / t.parts) * KEYS;
    return (range) {begin + (int) ((long) blocks * t.part / t.parts) * KEYS, min_int(own_end, end)};
}

// Merge the partial softmaxes of all threads  ->  row (H, d)
static void merge_partial_softmax(float *row, const thread_scratch *all, const decoder *model, int parts) {
    for (int h = 0; h < model->H; h++, row += model->d) {
        float m = -INFINITY, l = 0.0f;
        for (int p = 0; p < parts; p++) m = all[p].attention.m[h] > m ? all[p].attention.m[h] : m;
        for (int i = 0; i < model->d; i++) row[i] = 0.0f;
        for (int p = 0; p < parts; p++) {
            const decode_attention_state *st = &all[p].attention;
            if (st->l[h] == 0.0f) continue;  // this thread had no keys to read
            float alpha = expf(st->m[h] - m);
            l += alpha * st->l[h];
            for (int i = 0; i < model->d; i++) row[i] += alpha * st->O[(size_t) h * st->W + i];
        }
        for (int i = 0; i < model->d; i++) row[i] /= l;
    }
}

// q (H, d), k (K, d), v (K, d) = norm(x) W
static void project_qkv(const worker *w, const layer *l, atomic_int *claimed) {
    const decoder *model = w->model;
    int D = model->D, q_width = model->H * model->d, kv_width = model->K * model->d;
    rms_norm(input_row(w, 0), w->x, l->attention_norm, model->eps, 1, D);
    quantize_input(w, 0, D, l->w_q.scales || l->w_k.scales || l->w_v.scales);
    multiply(w, w->shared->q, &l->w_q, 0, D, q_width, &claimed[Q]);
    multiply(w, w->shared->k, &l->w_k, 0, D, kv_width, &claimed[K]);
    multiply(w, w->shared->v, &l->w_v, 0, D, kv_width, &claimed[V]);
}

// Encode the position in this thread's heads of q and k, and store its heads of k and v in the cache.
static void encode_and_store(const worker *w, const layer *l) {
    const decoder *model = w->model;
    int part = w->team.part, parts = w->team.parts, d = model->d;
    int q_begin = model->H * part / parts, q_end = model->H * (part + 1) / parts;
    int k_begin = model->K * part / parts, k_end = model->K * (part + 1) / parts;
    float *k = w->shared->k + (size_t) k_begin * d, *v = w->shared->v + (size_t) k_begin * d;
    encode_positions(w->shared->q + (size_t) q_begin * d, q_end - q_begin, w, l, w->token->temperature);
    encode_positions(k, k_end - k_begin, w, l, 1.0f);  // only the query is scaled
    for (int head = k_begin; head < k_end; head++, k += d, v += d) {
        ptrdiff_t at = ((ptrdiff_t) (w->token->position - l->kv_start) * model->K + head) * d;
        kv_store(&l->keys, k, at, d);
        kv_store(&l->values, v, at, d);
    }
}

// All heads over this thread's keys: m (H), l (H), O (H, W)
static void attend_own_keys(const worker *w, const layer *l) {
    decode_attention_state state = w->scratch->attention;
    range keys = key_range_of_thread(l, w->token->position, w->team);
    decode_attention_reset(&state, w->shared->q);
    decode_attend(&state, &l->keys, &l->values, keys.begin, keys.end);
}

// x (D) += attended (H d) W_o
static void project_output(const worker *w, const layer *l, atomic_int *claimed) {
    int I = w->model->H * w->model->d, D = w->model->D;
    float *y = w->shared->y;
    merge_partial_softmax(input_row(w, 0), w->all_scratch, w->model, w->team.parts);
    quantize_input(w, 0, I, l->w_o.scales != NULL);
    for (range r; claim_outputs(claimed, &l->w_o, I, D, &r);) {
        multiply_range(w, y, 0, &l->w_o, 0, I, D, r);
        for (int i = r.begin; i < r.end; i++) w->x[i] += y[i];
    }
}

// x += attention(norm(x))
static void attention_block(const worker *w, const layer *l, atomic_int *claimed) {
    project_qkv(w, l, claimed);  // phase 1: q, k, v = norm(x) W
    wait_for_team(w);
    encode_and_store(w, l);  // phase 2: encode the position, store in the cache
    wait_for_team(w);
    attend_own_keys(w, l);  // phase 3: the partial softmax over each thread's keys
    wait_for_team(w);
    project_output(w, l, &claimed[O]);  // phase 4: x += merged W_o
    wait_for_team(w);
}

// The c-th best of E scores, after chosen[0] to chosen[c - 1]; ties go to the lower expert, as in router.c.
static int kth_best_expert(const float *scores, int E, int c, const int *chosen) {
    int best = -1;
    for (int e = 0; e < E; e++) {
        int is_chosen = 0;
        for (int i = 0; i < c; i++) is_chosen |= chosen[i] == e;
        if (!is_chosen && (best < 0 || scores[e] > scores[best])) best = e;
    }
    return best;
}

// scores (E) of the router, gate (F) and up (F) of the dense network = norm(x) W
static void project_dense(const worker *w, const layer *l, atomic_int *claimed) {
    const shared_scratch *s = w->shared;
    int D = w->model->D, F = l->F;
    rms_norm(input_row(w, 0), w->x, l->feed_forward_norm, w->model->eps, 1, D);
    quantize_input(w, 0, D, l->dense_gate.scales || l->dense_up.scales);
    if (l->E) multiply(w, s->scores, &l->w_router, 0, D, l->E, &claimed[ROUTER]);
    multiply(w, s->gate, &l->dense_gate, 0, D, F, &claimed[GATE]);
    multiply(w, s->up, &l->dense_up, 0, D, F, &claimed[UP]);
}

// gate (C, F) and up (C, F) of the chosen experts = (router's gate * norm(x)) W  ->  chosen (C)
static void project_experts(const worker *w, const layer *l, int *chosen, atomic_int *claimed) {
    const shared_scratch *s = w->shared;
    int D = w->model->D, F = l->F;
    float *row = input_row(w, 0);
    for (int c = 0; c < w->model->C; c++) {
        chosen[c] = kth_best_expert(s->scores, l->E, c, chosen);
        rms_norm(row, w->x, l->feed_forward_norm, w->model->eps, 1, D);
        for (int i = 0; i < D; i++) row[i] *= 1.0f / (1.0f + expf(-s->scores[chosen[c]]));
        quantize_input(w, 0, D, l->w_gate.scales || l->w_up.scales);
        size_t hidden = (size_t) (1 + c) * F;
        multiply(w, s->gate + hidden, &l->w_gate, chosen[c], D, F, &claimed[EXPERT_GATE + 2 * c]);
        multiply(w, s->up + hidden, &l->w_up, chosen[c], D, F, &claimed[EXPERT_UP + 2 * c]);
    }
}

// hidden (branches, F) = swiglu(gate, up), repeated by every thread
static void activate(const worker *w, const layer *l, int branches) {
    int F = l->F;
    for (int c = 0; c < branches; c++) {
        swiglu(input_row(w, c), w->shared->gate + (size_t) c * F, w->shared->up + (size_t) c * F, 1, F);
        quantize_input(w, c, F, (c ? &l->w_down : &l->dense_down)->scales != NULL);
    }
}

// x (D) += hidden (branches, F) W_down, branch by branch
static void project_down(const worker *w, const layer *l, int branches, const int *chosen, atomic_int *claimed) {
    int D = w->model->D, F = l->F;
    float *y = w->shared->y;
    for (range r; claim_outputs(claimed, l->E ? &l->w_down : &l->dense_down, F, D, &r);)
        for (int c = 0; c < branches; c++) {
            const matrix *down = c ? &l->w_down : &l->dense_down;
            multiply_range(w, y, c, down, c ? chosen[c - 1] : 0, F, D, r);
            for (int i = r.begin; i < r.end; i++) w->x[i] += y[i];
        }
}

// x += feed_forward(norm(x)): branch 0 is the dense network, the others are the chosen experts.
static void feed_forward_block(const worker *w, const layer *l, atomic_int *claimed) {
    int chosen[w->model->C], branches = l->E ? 1 + w->model->C : 1;
    project_dense(w, l, claimed);  // phase 1: router's scores, dense gate and up = norm(x) W
    wait_for_team(w);
    if (l->E) {
        project_experts(w, l, chosen, claimed);  // phase 2: the chosen experts' gate and up
        wait_for_team(w);
    }
    activate(w, l, branches);                              // phase 3: hidden = swiglu(gate, up)
    project_down(w, l, branches, chosen, &claimed[DOWN]);  // phase 4: x += hidden W_down
    wait_for_team(w);
}

// x (D): a token's vector, updated in place by layers first_layer to end_layer - 1, which need not be all.  cos and sin
// (d/2).  The token's keys and values are stored in the cache of these layers.
void decode(float *x, const decoder *model, int first_layer, int end_layer, int64_t position, const float *cos,
            const float *sin, float temperature) {
    int threads = max_threads();
    token t = {position, cos, sin, temperature};
    arena memory = arena_at(model->scratch);
    shared_scratch shared = shared_scratch_in(&memory, model);
    thread_scratch all[threads];
    for (int p = 0; p < threads; p++) all[p] = thread_scratch_in(&memory, model);
    int products = products_per_layer(model);
    for (int i = 0; i < model->L * products; i++) atomic_init(&shared.claimed[i], 0);
    barrier b = {0};
    claimed_cpus cpus = {0};
    #pragma omp parallel num_threads(threads)
    {
        move_to_free_core(&cpus);
        team team = {&b, thread_index(), thread_count()};
        worker w = {model, &t, x, &shared, all, &all[team.part], team};
        for (int i = first_layer; i < end_layer; i++) {
            attention_block(&w, &model->layers[i], shared.claimed + i * products);
            feed_forward_block(&w, &model->layers[i], shared.claimed + i * products);
        }
    }
}
