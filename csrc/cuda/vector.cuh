// Four numbers at a time: a warp then asks for 512 bytes at once, where the rows are long and aligned enough.
#pragma once

template <int V> struct __align__(4 * V) Floats { float at[V]; };      // V 4, or 1 where 4 do not fit

template <int V> __device__ Floats<V> load(const float *p, size_t i) { return ((const Floats<V> *) p)[i]; }
template <int V> __device__ void store(float *p, size_t i, Floats<V> v) { ((Floats<V> *) p)[i] = v; }

// May rows of D numbers be read as float4?  Only where each begins at a multiple of 16 bytes.
template <typename... P> __device__ bool fours(int D, P... p) { return D % 4 == 0 && ((... | (size_t) p) % 16) == 0; }

// out[i] = f(in[i], ...) for n numbers, in a grid of a thread for every four.  The last thread may own fewer.
template <typename F, typename... In> __device__ void for_each(F f, size_t n, float *out, const In *...in) {
    size_t i = (size_t) blockIdx.x * blockDim.x + threadIdx.x;
    if (4 * i + 4 <= n && fours(4, out, in...)) {
        Floats<4> v;
        [&](auto... four) { for (int k = 0; k < 4; k++) v.at[k] = f(four.at[k]...); }(load<4>(in, i)...);
        store<4>(out, i, v);
    } else {
        for (size_t k = 4 * i; k < 4 * i + 4 && k < n; k++) out[k] = f(in[k]...);
    }
}
