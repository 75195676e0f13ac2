// Sampling, equations (top-k), (top-p) and (sampling).
#include "threads.h"

#include "simd.h"

#include <math.h>

#include "memory.h"

// Every float has a rank of 32 bits, in ascending order.  These are the ranks of minus and plus infinity.
enum { RANK_MIN = 0x007fffff };
static const uint32_t RANK_MAX = 0xff800000;
static inline float float_of_rank(uint32_t rank) {
    uint32_t bits = rank & 0x80000000 ? rank ^ 0x80000000 : ~rank;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

// A threshold that the k largest of x (V) and their equals reach: the k-th largest element, or a value between it and
// the next smaller one.  Bisecting the ranks takes at most 32 rounds of counting, which vectorizes.  NaN reaches every
// threshold; if k elements are NaN, everything is kept.
static float kth_largest(const float *x, int k, int V) {
    int nans = 0, count = 0;
    for (int i = 0; i < V; i++) nans += x[i] != x[i];
    uint32_t low = RANK_MIN, high = nans < k ? RANK_MAX + 1 : RANK_MIN + 1;
    while (high - low > 1 && count != k) {
        uint32_t mid = low + (high - low) / 2;
        float level = float_of_rank(mid);
        count = 0;
        for (int i = 0; i < V; i++) count += !(x[i] < level);
        if (count >= k) low = mid;
        else high = mid;
    }
    return float_of_rank(low);
}

// logits (N, V), k from 1 to V  ->  out (N, V)
void top_k(float *out, const float *logits, int k, int N, int V) {
    #pragma omp parallel for if ((size_t) N * V > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        const float *x = logits + (size_t) n * V;
        float threshold = kth_largest(x, k, V);
        for (int i = 0; i < V; i++) out[(size_t) n * V + i] = x[i] < threshold ? -INFINITY : x[i];
    }
}

// A heap of tokens: each comes before its two children, by probability, and if equal by number; NaN comes last.
static inline int is_before(const double *p, int a, int b) {
    return p[a] > p[b] || (p[a] == p[b] ? a < b : isnan(p[b]) && (!isnan(p[a]) || a < b));
}
static void sift_down(int *heap, const double *p, int at, int size) {
    int token = heap[at];
    for (int child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && is_before(p, heap[child + 1], heap[child])) child++;
        if (!is_before(p, heap[child], token)) break;
        heap[at] = heap[child];
    }
    heap[at] = token;
}

// Zero all of probability (V) except the most likely ones that together hold p  ->  the sum of those that are kept.
// They are taken from a heap one by one, so that the unlikely ones are never sorted.
static double keep_top_p(double *probability, int *heap, double p, int V) {
    for (int i = 0; i < V; i++) heap[i] = i;
    for (int i = V / 2 - 1; i >= 0; i--) sift_down(heap, probability, i, V);
    double sum = 0.0, kept = 0.0;
    int size = V;
    while (size > 0) {
        double next = probability[heap[0]];
        sum += next;
        if (!(sum - next <= p)) break;  // as NumPy's cumulative sum minus its last term
        kept = sum;
        heap[0] = heap[--size];
        if (size) sift_down(heap, probability, 0, size);
    }
    for (int i = 0; i < size; i++) probability[heap[i]] = 0.0;
    return kept;
}

typedef struct {
    double *probability;  // (V)
    int *heap;            // (V)
} workspace;
static workspace workspace_in(arena *a, int V) {
    return (workspace) {carve(a, sizeof(double) * (size_t) V), carve_ints(a, V)};
}

// probabilities (N, V)  ->  out (N, V)
void top_p(float *out, const float *probabilities, double p, int N, int V) {
    arena count = {0};
    workspace_in(&count, V);
    arena memory = allocate(count.used * max_threads());
    if (!memory.base) return;
    #pragma omp parallel for if ((size_t) N * V > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        const float *row = probabilities + (size_t) n * V;
        arena part = arena_part(&memory, count.used, thread_index());
        workspace t = workspace_in(&part, V);
        for (int i = 0; i < V; i++) t.probability[i] = row[i];
        double kept = keep_top_p(t.probability, t.heap, p, V);
        for (int i = 0; i < V; i++) out[(size_t) n * V + i] = isnan(kept) ? NAN : (float) (t.probability[i] / kept);
    }
    release(&memory);
}

// The first token whose cumulative weight exceeds `uniform` times the sum of all, V if none does.
static int inverse_cdf(const double *weight, double uniform, int V) {
    double total = 0.0, sum = 0.0;
    for (int i = 0; i < V; i++) total += weight[i];
    for (int i = 0; i < V; i++)
        if ((sum += weight[i]) > uniform * total) return i;
    return V;
}

// logits (V), temperature > 0, k from 1 to V, p infinite to keep all  ->  out (1), a token; V if the largest logit is
// not finite, as in NumPy's search
void sample(int *out, const float *logits, double uniform, double temperature, int k, double p, int V) {
    arena count = {0};
    workspace_in(&count, V);
    arena memory = allocate(count.used);
    if (!memory.base) return;
    workspace t = workspace_in(&memory, V);
    double *weight = t.probability, sum = 0.0;
    float best = logits[0];
    for (int i = 1; i < V; i++) best = logits[i] > best || isnan(logits[i]) ? logits[i] : best;
    *out = V;
    if (isfinite(best)) {
        float threshold = k < V ? kth_largest(logits, k, V) : -INFINITY;
        #pragma omp parallel for if (V > PARALLEL_MIN)
        for (int i = 0; i < V; i++) {
            double score = ((double) logits[i] - best) / temperature;
            weight[i] = logits[i] < threshold ? 0.0 : exp(score);
        }
        if (p != INFINITY) {
            for (int i = 0; i < V; i++) sum += weight[i];
            for (int i = 0; i < V; i++) weight[i] /= sum;
            keep_top_p(weight, t.heap, p, V);
        }
        *out = inverse_cdf(weight, uniform, V);
    }
    release(&memory);
}
