// Sampling, equations (top-k), (top-p) and (sampling).
#include "threads.h"

#include "simd.h"

#include <math.h>

#include "memory.h"

// The float at place `rank` when all floats stand in order, minus infinity and plus infinity at these two ranks.
enum { LOWEST = 0x007fffff };
static const uint32_t HIGHEST = 0xff800000;
static inline float in_order(uint32_t rank) {
    uint32_t bits = rank & 0x80000000 ? rank ^ 0x80000000 : ~rank;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

// A level that k of x (V) reach, and fewer than k a higher one: the k-th largest, or between it and the next.  Halving
// the floats that it may be takes at most 32 rounds of counting, and counting is what vectors are good at.  NaN
// reaches any level; where k are NaN, everything stays.
static float level_of_best(const float *x, int k, int V) {
    int nans = 0, count = 0;
    for (int i = 0; i < V; i++) nans += x[i] != x[i];
    uint32_t low = LOWEST, high = nans < k ? HIGHEST + 1 : LOWEST + 1;
    while (high - low > 1 && count != k) {
        uint32_t middle = low + (high - low) / 2;
        float level = in_order(middle);
        count = 0;
        for (int i = 0; i < V; i++) count += !(x[i] < level);
        if (count >= k) low = middle;
        else high = middle;
    }
    return in_order(low);
}

// logits (N, V), k from 1 to V  ->  out (N, V)
void top_k(float *out, const float *logits, int k, int N, int V) {
    #pragma omp parallel for if ((size_t) N * V > SMALL)
    for (int n = 0; n < N; n++) {
        const float *x = logits + (size_t) n * V;
        float worst = level_of_best(x, k, V);
        for (int i = 0; i < V; i++) out[(size_t) n * V + i] = x[i] < worst ? -INFINITY : x[i];
    }
}

// A heap of tokens: each before the two below it, by probability and among equals by number; NaN comes last.
static inline int before(const double *p, int a, int b) {
    return p[a] > p[b] || (p[a] == p[b] ? a < b : isnan(p[b]) && (!isnan(p[a]) || a < b));
}
static void sink(int *heap, const double *p, int at, int size) {
    int token = heap[at];
    for (int below; (below = 2 * at + 1) < size; at = below) {
        if (below + 1 < size && before(p, heap[below + 1], heap[below])) below++;
        if (!before(p, heap[below], token)) break;
        heap[at] = heap[below];
    }
    heap[at] = token;
}

// Zero all but the likeliest of probability (V) that together hold `most`; what the kept ones hold comes back.  Taking
// them from a heap one by one costs nothing for those that are never reached.
static double keep_likeliest(double *probability, int *heap, double most, int V) {
    for (int i = 0; i < V; i++) heap[i] = i;
    for (int i = V / 2 - 1; i >= 0; i--) sink(heap, probability, i, V);
    double sum = 0.0, held = 0.0;
    int size = V;
    while (size > 0) {
        double next = probability[heap[0]];
        sum += next;
        if (!(sum - next <= most)) break;           // as NumPy's cumulative sum less its last term
        held = sum;
        heap[0] = heap[--size];
        if (size) sink(heap, probability, 0, size);
    }
    for (int i = 0; i < size; i++) probability[heap[i]] = 0.0;
    return held;
}

// What keeping the likeliest needs.
typedef struct {
    double *probability;        // (V)
    int *heap;                  // (V)
} work;
static work work_in(arena *a, int V) { return (work) {carve(a, sizeof(double) * (size_t) V), carve_ints(a, V)}; }

// probabilities (N, V)  ->  out (N, V)
void top_p(float *out, const float *probabilities, double p, int N, int V) {
    arena count = {0};
    work_in(&count, V);
    arena memory = allocate(count.used * most_threads());
    if (!memory.base) return;
    #pragma omp parallel for if ((size_t) N * V > SMALL)
    for (int n = 0; n < N; n++) {
        const float *row = probabilities + (size_t) n * V;
        arena part = arena_part(&memory, count.used, thread());
        work t = work_in(&part, V);
        for (int i = 0; i < V; i++) t.probability[i] = row[i];
        double held = keep_likeliest(t.probability, t.heap, p, V);
        for (int i = 0; i < V; i++) out[(size_t) n * V + i] = isnan(held) ? NAN : (float) (t.probability[i] / held);
    }
    release(&memory);
}

// The first token whose cumulative weight passes the share `uniform` of all, V where none does.
static int draw(const double *weight, double uniform, int V) {
    double total = 0.0, sum = 0.0;
    for (int i = 0; i < V; i++) total += weight[i];
    for (int i = 0; i < V; i++)
        if ((sum += weight[i]) > uniform * total) return i;
    return V;
}

// logits (V), temperature > 0, k from 1 to V, p infinite for all  ->  out (1), a token; V where the best logit is not
// finite, as NumPy's search has it
void sample(int *out, const float *logits, double uniform, double temperature, int k, double p, int V) {
    arena count = {0};
    work_in(&count, V);
    arena memory = allocate(count.used);
    if (!memory.base) return;
    work t = work_in(&memory, V);
    double *weight = t.probability, sum = 0.0;
    float best = logits[0];
    for (int i = 1; i < V; i++) best = logits[i] > best || isnan(logits[i]) ? logits[i] : best;
    *out = V;
    if (isfinite(best)) {
        float worst = k < V ? level_of_best(logits, k, V) : -INFINITY;
        #pragma omp parallel for if (V > SMALL)
        for (int i = 0; i < V; i++) {
            double score = ((double) logits[i] - best) / temperature;
            weight[i] = logits[i] < worst ? 0.0 : exp(score);
        }
        if (p != INFINITY) {
            for (int i = 0; i < V; i++) sum += weight[i];
            for (int i = 0; i < V; i++) weight[i] /= sum;
            keep_likeliest(weight, t.heap, p, V);
        }
        *out = draw(weight, uniform, V);
    }
    release(&memory);
}
