// Rotary position embedding, equation (rope): one block owns one token, and each thread rotates pairs of its heads.

// x (B, T, H, d), cos and sin (T, d/2)  ->  out (B, T, H, d)
extern "C" __global__ void apply_rope(float *out, const float *x, const float *cos, const float *sin, int B, int T,
                                      int H, int d) {
    int half = d / 2, t = blockIdx.x % T;
    size_t token = (size_t) blockIdx.x * H * half;
    for (int i = threadIdx.x; i < H * half; i += blockDim.x) {  // neighbouring threads rotate neighbouring pairs
        float2 pair = ((const float2 *) x)[token + i];
        float c = cos[(size_t) t * half + i % half], s = sin[(size_t) t * half + i % half];
        ((float2 *) out)[token + i] = make_float2(pair.x * c - pair.y * s, pair.x * s + pair.y * c);
    }
}
