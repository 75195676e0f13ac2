// Four elements at a time: one load of a warp is then 512 bytes, if the rows are long enough and aligned.
#pragma once

#include "bf16.cuh"

// V elements: 4, or 1 if 4 do not fit.
template <int V> struct __align__(4 * V) Floats {
    float at[V];
};

template <int V> __device__ Floats<V> load(const float *p, size_t i) { return ((const Floats<V> *) p)[i]; }
template <int V> __device__ void store(float *p, size_t i, Floats<V> v) { ((Floats<V> *) p)[i] = v; }

__device__ inline float4 load_float4(const float *p) { return *(const float4 *) p; }
__device__ inline float4 load_float4(const bf16 *p) {
    ushort4 v = *(const ushort4 *) p;
    return make_float4(to_float(v.x), to_float(v.y), to_float(v.z), to_float(v.w));
}

// True if rows of D elements can be read as float4: each begins at a multiple of 16 bytes.
template <typename... P> __device__ bool is_vec4_aligned(int D, P... p) {
    return D % 4 == 0 && ((... | (size_t) p) % 16) == 0;
}

// out[i] = f(in[i], ...) for n elements, in a grid with a thread for every four.  The last thread may own fewer.
template <typename F, typename... In> __device__ void map_elements(F f, size_t n, float *out, const In *...in) {
    size_t i = (size_t) blockIdx.x * blockDim.x + threadIdx.x;
    if (4 * i + 4 <= n && is_vec4_aligned(4, out, in...)) {
        Floats<4> y;
        [&](auto... x) {
            for (int k = 0; k < 4; k++) y.at[k] = f(x.at[k]...);
        }(load<4>(in, i)...);
        store<4>(out, i, y);
    } else {
        for (size_t k = 4 * i; k < 4 * i + 4 && k < n; k++) out[k] = f(in[k]...);
    }
}
