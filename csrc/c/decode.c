// One token through all layers: tinyscout/text.py once more, without a way back to Python between the operations.
//
// There is one parallel region for the whole token.  Every thread computes its share of the outputs of each matrix; what
// is small (a norm, a gate, a row turned into bytes) each thread computes for itself, which is cheaper than to wait.
// The rows that the threads write for each other lie in `shared`, and a barrier stands wherever one is complete.
#include "barrier.h"

#include "attend_few.h"
#include "rows.h"

// What one thread needs for itself.
typedef struct {
    float *row;                 // (1 + C, widest): inputs of the next products
    few *bytes;                 // (1 + C): the same in bytes
    few_queries past;           // attention over this thread's share of the keys, for the other threads to read
} own;

typedef struct {
    atomic_int *next;                                   // of each product of each layer: the outputs to be taken next
    float *x, *q, *k, *v, *scores, *gate, *up, *y;      // gate and up: (1 + C, F): the shared expert's, then the chosen ones'
} shared;

static int widest(const decoder *m) {
    int most = m->D > m->H * m->d ? m->D : m->H * m->d;
    for (int i = 0; i < m->L; i++) most = m->layers[i].F > most ? m->layers[i].F : most;
    return most;
}
static int most_experts(const decoder *m) {
    int most = 1;
    for (int i = 0; i < m->L; i++) most = m->layers[i].E > most ? m->layers[i].E : most;
    return most;
}

// Products of a layer whose outputs are taken in turn: q k v o, router, gate, up, two for each chosen expert, all downs.
static size_t products(const decoder *m) { return 8 + 2 * (size_t) m->C; }

static own own_in(arena *a, const decoder *m) {
    size_t rows = 1 + (size_t) m->C;
    own o = {.row = carve_floats(a, rows * widest(m)), .bytes = carve(a, rows * sizeof(few))};
    for (size_t c = 0; c < rows; c++) {
        few bytes = few_in(a, widest(m));
        if (o.bytes) o.bytes[c] = bytes;
    }
    o.past = few_queries_in(a, m->H, m->K, m->d);
    return o;
}
static shared shared_in(arena *a, const decoder *m) {
    size_t branches = 1 + (size_t) m->C;
    return (shared) {
        .next = carve(a, sizeof(atomic_int) * m->L * products(m)),
        .q = carve_floats(a, (size_t) m->H * m->d),
        .k = carve_floats(a, (size_t) m->K * m->d),
        .v = carve_floats(a, (size_t) m->K * m->d),
        .scores = carve_floats(a, most_experts(m)),
        .gate = carve_floats(a, branches * widest(m)),
        .up = carve_floats(a, branches * widest(m)),
        .y = carve_floats(a, m->D),
    };
}
int64_t decoder_floats(const decoder *m) {
    arena count = {0};
    shared_in(&count, m);
    for (int part = 0; part < most_threads(); part++) own_in(&count, m);
    return (int64_t) ((count.used + CACHE_LINE) / sizeof(float));
}

// The c-th row in bytes too, where a matrix is in bits.
static void ready(own *o, const decoder *m, int c, int I, int in_bits) {
    if (!in_bits) return;
    to_bytes(&o->bytes[c], o->row + (size_t) c * widest(m), I, 0, I / GROUP);
}

// Turn and normalise, or sharpen, some heads, as tinyscout.text.attention does.
static void place(float *x, int heads, const decoder *m, const layer *l, const float *cos, const float *sin,
                  float temperature) {
    if (l->rope) apply_rope(x, x, cos, sin, 1, 1, heads, m->d);
    if (l->rope && m->qk_norm) rms_norm(x, x, NULL, m->eps, heads, m->d);
    for (int i = 0; i < heads * m->d && !l->rope; i++) x[i] *= temperature;
}

// One group of a key or value as integers and a scale, exactly as quantize_rows makes them (reference/quantize.py).
static void keep_group(const past *k, const float *x, ptrdiff_t at) {
    float most = 1e-6f;
    for (int i = 0; i < k->group; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    float exact = most / (k->kind == INT4 ? 8.0f : 127.0f);
    uint16_t half = to_bf16_one(exact);
    if (from_bf16_one(half) < exact) half++;        // up, so that the largest number stays within reach
    float scale = from_bf16_one(half);
    ((uint16_t *) k->scales)[at / k->group] = half;
    for (int i = 0; i < k->group; i++) {
        float whole = rintf(x[i] / scale);
        if (k->kind == INT8) {
            ((int8_t *) k->values)[at + i] = (int8_t) (whole > 127 ? 127 : whole < -127 ? -127 : (int) whole);
            continue;
        }
        int four = (whole > 7 ? 7 : whole < -8 ? -8 : (int) whole) & 15;
        uint8_t *pair = (uint8_t *) k->values + (at + i) / 2;
        *pair = (uint8_t) ((at + i) % 2 ? (*pair & 15) | four << 4 : four);
    }
}

// One head's key or value, put into the cache at `slot` in the cache's form.
static void keep(const past *k, const float *row, int64_t slot, int head, int K, int d) {
    ptrdiff_t at = ((ptrdiff_t) slot * K + head) * d;
    if (k->kind == F32) memcpy((float *) k->values + at, row, sizeof(float) * (size_t) d);
    else if (k->kind == BF16) for (int i = 0; i < d; i++) ((uint16_t *) k->values)[at + i] = to_bf16_one(row[i]);
    else for (int g = 0; g < d / k->group; g++) keep_group(k, row + g * k->group, at + (ptrdiff_t) g * k->group);
}

// The keys that thread `part` of `parts` reads: whole tiles of those that the token may see.
static void keys_of(const layer *l, int64_t position, int part, int parts, int *from, int *to) {
    int stop = (int) (position - l->first) + 1;
    int64_t chunk_low = l->chunk ? position / l->chunk * l->chunk - l->first : 0;
    int low = chunk_low > 0 ? (int) chunk_low : 0, tiles = (stop - low + KEYS - 1) / KEYS;
    *from = low + (int) ((long) tiles * part / parts) * KEYS;
    *to = low + (int) ((long) tiles * (part + 1) / parts) * KEYS;
    if (*to > stop) *to = stop;
}

// All queries over this thread's share of the keys.
static void read_past(own *o, const shared *s, const decoder *m, const layer *l, int64_t position, int part, int parts) {
    int from, to;
    keys_of(l, position, part, parts, &from, &to);
    few_queries_begin(&o->past, s->q, m->H, m->d);
    few_read(&o->past, &l->keys, &l->values, from, to, m->H, m->K, m->d);
}

// What all threads have read, as one  ->  row (H, d)
static void combine(float *row, const own *all_own, const decoder *m, int parts) {
    int W = vectors(m->d);
    for (int h = 0; h < m->H; h++, row += m->d) {
        float most = -INFINITY, total = 0.0f;
        for (int p = 0; p < parts; p++) most = all_own[p].past.most[h] > most ? all_own[p].past.most[h] : most;
        for (int i = 0; i < m->d; i++) row[i] = 0.0f;
        for (int p = 0; p < parts; p++) {
            const few_queries *f = &all_own[p].past;
            if (f->total[h] == 0.0f) continue;                      // it had no keys to read
            float weight = expf(f->most[h] - most);
            total += weight * f->total[h];
            for (int i = 0; i < m->d; i++) row[i] += weight * f->sum[(size_t) h * W + i];
        }
        for (int i = 0; i < m->d; i++) row[i] /= total;
    }
}

// The c-th best of E scores; of equals the lower expert, as in router.
static int choice(const float *scores, int E, int c, const int *before) {
    int best = -1;
    for (int e = 0; e < E; e++) {
        int taken = 0;
        for (int i = 0; i < c; i++) taken |= before[i] == e;
        if (!taken && (best < 0 || scores[e] > scores[best])) best = e;
    }
    return best;
}

// Some outputs of a product, as long as there are any.
static void multiply(float *out, const own *o, const matrix *w, int expert, int I, int O, atomic_int *next) {
    for (int first, last; take(next, w, I, O, &first, &last);)
        few_rows(out, o->row, o->bytes, w, expert, 1, I, O, first, last);
}

static void attention_block(const decoder *m, const layer *l, shared *s, own *all_own, int64_t position, const float *cos,
                            const float *sin, float temperature, atomic_int *next, barrier *b, int part, int parts) {
    own *o = &all_own[part];
    rms_norm(o->row, s->x, l->attention_norm, m->eps, 1, m->D);
    ready(o, m, 0, m->D, l->w_q.scales || l->w_k.scales || l->w_v.scales);
    multiply(s->q, o, &l->w_q, 0, m->D, m->H * m->d, next++);
    multiply(s->k, o, &l->w_k, 0, m->D, m->K * m->d, next++);
    multiply(s->v, o, &l->w_v, 0, m->D, m->K * m->d, next++);
    wait_for_all(b, parts);
    int h = m->H * part / parts, h_end = m->H * (part + 1) / parts, k = m->K * part / parts, k_end = m->K * (part + 1) / parts;
    place(s->q + (size_t) h * m->d, h_end - h, m, l, cos, sin, temperature);
    place(s->k + (size_t) k * m->d, k_end - k, m, l, cos, sin, 1.0f);       // only the query is sharpened
    for (; k < k_end; k++) {
        keep(&l->keys, s->k + (size_t) k * m->d, position - l->first, k, m->K, m->d);
        keep(&l->values, s->v + (size_t) k * m->d, position - l->first, k, m->K, m->d);
    }
    wait_for_all(b, parts);
    read_past(o, s, m, l, position, part, parts);
    wait_for_all(b, parts);
    combine(o->row, all_own, m, parts);
    ready(o, m, 0, m->H * m->d, l->w_o.scales != NULL);
    for (int first, last; take(next, &l->w_o, m->H * m->d, m->D, &first, &last);) {
        few_rows(s->y, o->row, o->bytes, &l->w_o, 0, 1, m->H * m->d, m->D, first, last);
        for (int i = first; i < last; i++) s->x[i] += s->y[i];
    }
    wait_for_all(b, parts);
}

static void feed_forward_block(const decoder *m, const layer *l, shared *s, own *o, atomic_int *next, barrier *b, int parts) {
    int chosen[m->C], D = m->D, F = l->F;
    rms_norm(o->row, s->x, l->feed_forward_norm, m->eps, 1, D);
    ready(o, m, 0, D, l->gate.scales || l->up.scales);
    if (l->E) multiply(s->scores, o, &l->w_router, 0, D, l->E, next++);
    multiply(s->gate, o, &l->gate, 0, D, F, next++);
    multiply(s->up, o, &l->up, 0, D, F, next++);
    wait_for_all(b, parts);
    for (int c = 0; c < m->C && l->E; c++) {
        chosen[c] = choice(s->scores, l->E, c, chosen);
        rms_norm(o->row, s->x, l->feed_forward_norm, m->eps, 1, D);
        for (int i = 0; i < D; i++) o->row[i] *= 1.0f / (1.0f + expf(-s->scores[chosen[c]]));
        ready(o, m, 0, D, l->w_gate.scales || l->w_up.scales);
        multiply(s->gate + (size_t) (1 + c) * F, o, &l->w_gate, chosen[c], D, F, next++);
        multiply(s->up + (size_t) (1 + c) * F, o, &l->w_up, chosen[c], D, F, next++);
    }
    if (l->E) wait_for_all(b, parts);
    int ways = l->E ? 1 + m->C : 1;                 // the shared expert, then the chosen ones
    for (int c = 0; c < ways; c++) {
        swiglu(o->row + (size_t) c * widest(m), s->gate + (size_t) c * F, s->up + (size_t) c * F, 1, F);
        ready(o, m, c, F, (c ? &l->w_down : &l->down)->scales != NULL);
    }
    for (int first, last; take(next, l->E ? &l->w_down : &l->down, F, D, &first, &last);)
        for (int c = 0; c < ways; c++) {
            few_rows(s->y, o->row + (size_t) c * widest(m), &o->bytes[c], c ? &l->w_down : &l->down, c ? chosen[c - 1] : 0,
                     1, F, D, first, last);
            for (int i = first; i < last; i++) s->x[i] += s->y[i];
        }
    wait_for_all(b, parts);
}

// x (D): a token's vector on its way, position: where it stands, first and last: the layers that it passes now, cos and
// sin (d/2), temperature: of a global layer's query.  Its keys and values are in the cache of these layers then.
void decode(float *x, const decoder *m, int first, int last, int64_t position, const float *cos, const float *sin,
           float temperature) {
    int most = most_threads();
    own all_own[most];
    arena memory = arena_at(m->scratch);
    shared s = shared_in(&memory, m);
    for (int p = 0; p < most; p++) all_own[p] = own_in(&memory, m);
    s.x = x;
    for (size_t i = 0; i < m->L * products(m); i++) atomic_init(&s.next[i], 0);
    barrier b = {0};
    taken cpus = {0};
    #pragma omp parallel num_threads(most)
    {
        spread(&cpus);
        int part = thread(), parts = threads();
        for (int i = first; i < last; i++) {
            atomic_int *next = s.next + (size_t) i * products(m);
            attention_block(m, &m->layers[i], &s, all_own, position, cos, sin, temperature, next, &b, part, parts);
            feed_forward_block(m, &m->layers[i], &s, &all_own[part], next + 4, &b, parts);
        }
    }
}
