// Patches, equations (patchify) and (pixel-shuffle): one block owns one row of the result and gathers its elements.

// tiles (B, C, R * patch, S * patch)  ->  out (B, R * S, C * patch * patch)
extern "C" __global__ void patchify(float *out, const float *tiles, int patch, int B, int C, int R, int S) {
    int s = blockIdx.x % S, r = blockIdx.x / S % R, b = blockIdx.x / S / R, D = C * patch * patch;
    for (int i = threadIdx.x; i < D; i += blockDim.x) {
        int column = i % patch, row = i / patch % patch, c = i / patch / patch;
        size_t line = (((size_t) b * C + c) * R + r) * patch + row;  // of S * patch pixels
        out[(size_t) blockIdx.x * D + i] = tiles[(line * S + s) * patch + column];
    }
}

// x (B, (R * side)^2, D)  ->  out (B, R * R, side * side * D)
extern "C" __global__ void pixel_shuffle(float *out, const float *x, int side, int B, int R, int D) {
    int s = blockIdx.x % R, r = blockIdx.x / R % R, b = blockIdx.x / R / R, length = side * side * D;
    for (int i = threadIdx.x; i < length; i += blockDim.x) {
        int channel = i % D, column = i / D % side, row = i / D / side;
        size_t line = ((size_t) b * R + r) * side + row;  // of R * side patches
        out[(size_t) blockIdx.x * length + i] = x[((line * R + s) * side + column) * D + channel];
    }
}
