// Sampling, equations (top-k), (top-p) and (sampling): one block owns one row of the vocabulary.
//
// Nothing is sorted.  A *level* is looked for above which as much lies as is wanted: halving the 2^32 floats that it may
// be takes 32 sums over the row.  What is summed are integers, for their sum does not depend on the order: so a seed
// gives the same tokens on every card.
#include <math_constants.h>

#include "warp.cuh"

typedef unsigned long long mass_t;                      // a probability in units of 2^-44: half a million of them fit
constexpr float UNIT = 17592186044416.0f;

// The place of a float when all floats stand in order: an integer that compares as it does, 0 and -0 alike, NaN last.
__device__ inline unsigned key_of(float x) {
    unsigned bits = __float_as_uint(x + 0.0f);
    return isnan(x) ? 0xffffffff : bits & 0x80000000 ? ~bits : bits | 0x80000000;
}
__device__ inline float float_of(unsigned key) {
    return __uint_as_float(key & 0x80000000 ? key ^ 0x80000000 : ~key);
}

// The sum of mass(i) over the V tokens of a row.
template <typename Mass> __device__ mass_t total(int V, Mass mass) {
    mass_t sum = 0;
    for (int i = threadIdx.x; i < V; i += blockDim.x) sum += mass(i);
    return block_sum(sum);
}

// The highest level such that the tokens which reach it have `enough` together, 0 where all of them have less.
template <typename Mass> __device__ unsigned level_of(const float *x, mass_t enough, int V, Mass mass) {
    unsigned level = 0;
    for (unsigned bit = 1u << 31; bit > 0; bit /= 2) {
        unsigned higher = level | bit;
        if (total(V, [=](int i) { return key_of(x[i]) >= higher ? mass(i) : 0; }) >= enough) level = higher;
    }
    return level;
}

// The first token at which the sum of mass(0), mass(1), ... is more than `target`, V where it never is.  Each warp
// adds up a part of the row; then the one in whose part it happens goes there again, 32 tokens at a time.
template <typename Mass> __device__ int first_beyond(mass_t target, int V, Mass mass) {
    __shared__ mass_t of_warp[WARP];
    __shared__ int found;
    int part = (V + warps() - 1) / warps(), begin = warp() * part, end = min(begin + part, V);
    mass_t sum = 0, before = 0;
    for (int i = begin + lane(); i < end; i += WARP) sum += mass(i);
    sum = over_warp<Sum>(sum);
    if (lane() == 0) of_warp[warp()] = sum;
    if (threadIdx.x == 0) found = V;
    __syncthreads();
    for (int w = 0; w < warp(); w++) before += of_warp[w];
    if (before <= target && target < before + sum) {
        for (int i = begin; i < end && before <= target; i += WARP) {
            mass_t upto = before + up_to_lane(i + lane() < end ? mass(i + lane()) : 0);
            unsigned beyond = __ballot_sync(ALL, upto > target);
            if (beyond && lane() == 0) found = i + __ffs(beyond) - 1;
            before = __shfl_sync(ALL, upto, WARP - 1);
        }
    }
    __syncthreads();
    int first = found;
    __syncthreads();                                    // before another call begins
    return first;
}

// Which tokens are the likeliest that hold no more than `most` before the last of them: those above a level, and of
// those on the level the first ones, until `last`.
struct Likeliest {
    unsigned level;
    int last;
    __device__ bool have(const float *x, int i) const {
        unsigned key = key_of(x[i]);
        return key > level || (key == level && i <= last);
    }
};
template <typename Mass> __device__ Likeliest likeliest(const float *x, mass_t most, int V, Mass mass) {
    unsigned level = level_of(x, most + 1, V, mass);
    mass_t above = total(V, [=](int i) { return key_of(x[i]) > level ? mass(i) : 0; });
    return {level, first_beyond(most - above, V, [=](int i) { return key_of(x[i]) == level ? mass(i) : 0; })};
}

// logits (N, V), k from 1 to V  ->  out (N, V)
extern "C" __global__ void top_k(float *out, const float *logits, int k, int N, int V) {
    const float *x = logits + (size_t) blockIdx.x * V;
    float worst = float_of(level_of(x, k, V, [](int) { return (mass_t) 1; }));
    for (int i = threadIdx.x; i < V; i += blockDim.x)
        out[(size_t) blockIdx.x * V + i] = x[i] < worst ? -CUDART_INF_F : x[i];
}

// probabilities (N, V), p from 0  ->  out (N, V)
extern "C" __global__ void top_p(float *out, const float *probabilities, double p, int N, int V) {
    const float *x = probabilities + (size_t) blockIdx.x * V;
    auto mass = [=](int i) { return x[i] > 0.0f ? (mass_t) (x[i] * UNIT) : 0; };
    Likeliest kept = likeliest(x, (mass_t) (min(p, 2.0) * UNIT), V, mass);
    float sum = total(V, [=](int i) { return kept.have(x, i) ? mass(i) : 0; }) / UNIT;
    for (int i = threadIdx.x; i < V; i += blockDim.x)
        out[(size_t) blockIdx.x * V + i] = kept.have(x, i) ? x[i] / sum : 0.0f;
}

// logits (V), temperature > 0, k from 1 to V, p infinite for all  ->  out (1), a token; V where the best logit is not
// finite, as NumPy's search has it
extern "C" __global__ void sample(int *out, const float *logits, double uniform, double temperature, int k, double p,
                                  int V) {
    unsigned best = 0;
    for (int i = threadIdx.x; i < V; i += blockDim.x) best = max(best, key_of(logits[i]));
    double most = float_of(block_max(best));
    unsigned worst = k < V ? level_of(logits, k, V, [](int) { return (mass_t) 1; }) : 0;
    auto mass = [=](int i) {
        float score = (float) ((logits[i] - most) / temperature);
        return key_of(logits[i]) < worst ? 0 : (mass_t) (expf(score) * UNIT);
    };
    int token = V;
    if (isfinite(most)) {
        Likeliest kept = {0, V};
        if (p < 1) kept = likeliest(logits, (mass_t) (p * total(V, mass)), V, mass);
        auto left = [=](int i) { return kept.have(logits, i) ? mass(i) : 0; };
        token = first_beyond((mass_t) (uniform * total(V, left)), V, left);
    }
    if (threadIdx.x == 0) *out = token;
}
