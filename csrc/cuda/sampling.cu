// Sampling, equations (top-k), (top-p) and (sampling): one block owns one row of the vocabulary.
//
// Nothing is sorted.  The threshold that the kept tokens reach is found by bisection over all 2^32 floats, which takes
// 32 sums over the row.  The sums are of integers, so they do not depend on the order: a seed gives the same tokens on
// every GPU.
#include <math_constants.h>

#include "warp.cuh"

typedef unsigned long long mass_t;               // a probability in units of 2^-44: the sum of half a million fits
constexpr float MASS_UNITS = 17592186044416.0f;  // 2^44

// An integer that compares like the float, with 0 and -0 equal and NaN above all; and the inverse.
__device__ inline unsigned sortable_key(float x) {
    unsigned bits = __float_as_uint(x + 0.0f);
    return isnan(x) ? 0xffffffff : bits & 0x80000000 ? ~bits : bits | 0x80000000;
}
__device__ inline float key_to_float(unsigned key) {
    return __uint_as_float(key & 0x80000000 ? key ^ 0x80000000 : ~key);
}

// The sum of mass(i) over the V tokens of a row.
template <typename Mass> __device__ mass_t total_mass(int V, Mass mass) {
    mass_t sum = 0;
    for (int i = threadIdx.x; i < V; i += blockDim.x) sum += mass(i);
    return block_sum(sum);
}

// The highest key such that the tokens that reach it have at least `target` together, 0 if all of them have less.  With
// a mass of 1 for each token this is the target-th largest key.
template <typename Mass> __device__ unsigned kth_largest_key(const float *x, mass_t target, int V, Mass mass) {
    unsigned key = 0;
    for (unsigned bit = 1u << 31; bit > 0; bit /= 2) {
        unsigned higher = key | bit;
        if (total_mass(V, [=](int i) { return sortable_key(x[i]) >= higher ? mass(i) : 0; }) >= target) key = higher;
    }
    return key;
}

// The first token at which the sum of mass(0), mass(1), ... exceeds `target`, V if it never does.  Each warp adds up a
// part of the row; then the warp whose part has that token scans it again, 32 tokens at a time.
template <typename Mass> __device__ int inverse_cdf(mass_t target, int V, Mass mass) {
    __shared__ mass_t warp_mass[WARP];
    __shared__ int found;
    int length = (V + warp_count() - 1) / warp_count(), begin = warp() * length, end = min(begin + length, V);
    mass_t sum = 0, before = 0;
    for (int i = begin + lane(); i < end; i += WARP) sum += mass(i);
    sum = warp_reduce<Sum>(sum);
    if (lane() == 0) warp_mass[warp()] = sum;
    if (threadIdx.x == 0) found = V;
    __syncthreads();
    for (int w = 0; w < warp(); w++) before += warp_mass[w];
    if (before <= target && target < before + sum) {
        for (int i = begin; i < end && before <= target; i += WARP) {
            mass_t cdf = before + warp_inclusive_scan(i + lane() < end ? mass(i + lane()) : 0);
            unsigned beyond = __ballot_sync(FULL_MASK, cdf > target);
            if (beyond && lane() == 0) found = i + __ffs(beyond) - 1;
            before = __shfl_sync(FULL_MASK, cdf, WARP - 1);
        }
    }
    __syncthreads();
    int first = found;
    __syncthreads();  // before another call begins
    return first;
}

// The tokens that top-p keeps: those whose key is above `key`, and those with this key up to token `last`.
struct TopPCut {
    unsigned key;
    int last;
    __device__ bool is_kept(const float *x, int i) const {
        unsigned x_key = sortable_key(x[i]);
        return x_key > key || (x_key == key && i <= last);
    }
};

// The most likely tokens with at most max_mass before the last of them.
template <typename Mass> __device__ TopPCut find_top_p_cut(const float *x, mass_t max_mass, int V, Mass mass) {
    unsigned key = kth_largest_key(x, max_mass + 1, V, mass);
    mass_t mass_above = total_mass(V, [=](int i) { return sortable_key(x[i]) > key ? mass(i) : 0; });
    return {key, inverse_cdf(max_mass - mass_above, V, [=](int i) { return sortable_key(x[i]) == key ? mass(i) : 0; })};
}

// logits (N, V), k from 1 to V  ->  out (N, V)
extern "C" __global__ void top_k(float *out, const float *logits, int k, int N, int V) {
    const float *x = logits + (size_t) blockIdx.x * V;
    float kth_largest = key_to_float(kth_largest_key(x, k, V, [](int) { return (mass_t) 1; }));
    for (int i = threadIdx.x; i < V; i += blockDim.x)
        out[(size_t) blockIdx.x * V + i] = x[i] < kth_largest ? -CUDART_INF_F : x[i];
}

// probabilities (N, V), p from 0  ->  out (N, V)
extern "C" __global__ void top_p(float *out, const float *probabilities, double p, int N, int V) {
    const float *x = probabilities + (size_t) blockIdx.x * V;
    auto mass = [=](int i) { return x[i] > 0.0f ? (mass_t) (x[i] * MASS_UNITS) : 0; };
    TopPCut cut = find_top_p_cut(x, (mass_t) (min(p, 2.0) * MASS_UNITS), V, mass);
    float sum = total_mass(V, [=](int i) { return cut.is_kept(x, i) ? mass(i) : 0; }) / MASS_UNITS;
    for (int i = threadIdx.x; i < V; i += blockDim.x)
        out[(size_t) blockIdx.x * V + i] = cut.is_kept(x, i) ? x[i] / sum : 0.0f;
}

// logits (V), temperature > 0, k from 1 to V, p infinite to keep all  ->  out (1), a token; V if the largest logit
// is not finite, as in NumPy's search
extern "C" __global__ void sample(int *out, const float *logits, double uniform, double temperature, int k, double p,
                                  int V) {
    unsigned max_key = 0;
    for (int i = threadIdx.x; i < V; i += blockDim.x) max_key = max(max_key, sortable_key(logits[i]));
    double max_logit = key_to_float(block_max(max_key));
    unsigned kth_key = k < V ? kth_largest_key(logits, k, V, [](int) { return (mass_t) 1; }) : 0;
    auto mass = [=](int i) {
        float scaled = (float) ((logits[i] - max_logit) / temperature);
        return sortable_key(logits[i]) < kth_key ? 0 : (mass_t) (expf(scaled) * MASS_UNITS);
    };
    int token = V;
    if (isfinite(max_logit)) {
        TopPCut cut = {0, V};
        if (p < 1) cut = find_top_p_cut(logits, (mass_t) (p * total_mass(V, mass)), V, mass);
        auto kept_mass = [=](int i) { return cut.is_kept(logits, i) ? mass(i) : 0; };
        token = inverse_cdf((mass_t) (uniform * total_mass(V, kept_mass)), V, kept_mass);
    }
    if (threadIdx.x == 0) *out = token;
}
