// Sampling, equations (top-k), (top-p) and (sampling).
#include "simd.h"

#include <math.h>
#include <stdlib.h>

// A float's bits in an order in which they count up as the float does; NaN stands above all.
static inline uint32_t ordered(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return UINT32_MAX;
    return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

// The k-th largest of x (V), found digit by digit: count how often each leading byte occurs, walk down from the
// largest to the byte that holds the k-th, and ask the same about the next byte of those that have it.
static float kth_largest(const float *x, int k, int V) {
    uint32_t found = 0, known = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int count[256] = {0}, byte = 255;
        for (int i = 0; i < V; i++) {
            uint32_t bits = ordered(x[i]);
            if ((bits & known) == found) count[bits >> shift & 255]++;
        }
        for (; count[byte] < k; byte--) k -= count[byte];
        found |= (uint32_t) byte << shift;
        known |= (uint32_t) 255 << shift;
    }
    for (int i = 0; ; i++)
        if (ordered(x[i]) == found) return x[i];
}

// logits (N, V), k from 1 to V  ->  out (N, V)
void top_k(float *out, const float *logits, int k, int N, int V) {
    #pragma omp parallel for if ((size_t) N * V > SMALL)
    for (int n = 0; n < N; n++) {
        const float *x = logits + (size_t) n * V;
        float worst = kth_largest(x, k, V);
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

// probabilities (N, V)  ->  out (N, V); a row is NaN where there is no memory to sort it in
void top_p(float *out, const float *probabilities, double p, int N, int V) {
    #pragma omp parallel for if ((size_t) N * V > SMALL)
    for (int n = 0; n < N; n++) {
        const float *row = probabilities + (size_t) n * V;
        double *kept = malloc((size_t) V * sizeof *kept), held = NAN;
        int *heap = malloc((size_t) V * sizeof *heap);
        if (kept && heap) {
            for (int i = 0; i < V; i++) kept[i] = row[i];
            held = keep_likeliest(kept, heap, p, V);
        }
        for (int i = 0; i < V; i++) out[(size_t) n * V + i] = isnan(held) ? NAN : (float) (kept[i] / held);
        free(kept);
        free(heap);
    }
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
// finite, as NumPy's search has it, and -1 without memory
void sample(int *out, const float *logits, double uniform, double temperature, int k, double p, int V) {
    double *weight = malloc((size_t) V * sizeof *weight), sum = 0.0;
    int *heap = malloc((size_t) V * sizeof *heap);
    float best = logits[0];
    for (int i = 1; i < V; i++) best = logits[i] > best || isnan(logits[i]) ? logits[i] : best;
    *out = weight && heap ? V : -1;
    if (weight && heap && isfinite(best)) {
        double worst = k < V ? ((double) kth_largest(logits, k, V) - best) / temperature : -INFINITY;
        #pragma omp parallel for if (V > SMALL)
        for (int i = 0; i < V; i++) {
            double score = ((double) logits[i] - best) / temperature;
            weight[i] = score < worst ? 0.0 : exp(score);
        }
        for (int i = 0; i < V; i++) sum += weight[i];
        for (int i = 0; i < V; i++) weight[i] /= sum;
        if (p != INFINITY) keep_likeliest(weight, heap, p, V);
        *out = draw(weight, uniform, V);
    }
    free(weight);
    free(heap);
}
