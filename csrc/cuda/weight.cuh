// A matrix (I, O) in any format of a checkpoint: at(i, o) is the weight of input i and output o.
#pragma once

#include "bf16.cuh"

// Unquantized weights.  The formula of a product has them as (in, out), most files as (out, in).  So the strides to the
// next input and output are kept with them; one stride is 1, and no matrix is transposed in memory.
template <class Number> struct Plain {
    const Number *values;
    long long in_stride, out_stride;

    __device__ bool are_inputs_contiguous() const { return in_stride == 1; }
    __device__ float at(int i, int o) const { return to_float(values[i * in_stride + o * out_stride]); }
};

// Integers of 8 or 4 bits in the tiles of tinyscout/reference/quantize.py: 16 columns, with one word of each next to
// each other.  quantized_matvec.cuh shows a tile.
template <int BITS, class Scale> struct Quantized {
    const unsigned char *values;
    const Scale *scales;
    int group, I;  // inputs that share a scale; inputs

    __device__ bool are_inputs_contiguous() const { return false; }
    __device__ float at(int i, int o) const {
        constexpr int PER_WORD = 32 / BITS;  // inputs in four bytes
        int tile = o / 16, column = o % 16;
        const unsigned char *word = values + (((long long) tile * (I / PER_WORD) + i / PER_WORD) * 16 + column) * 4;
        int q = BITS == 8 ? (signed char) word[i % 4] : (signed char) (word[i % 8 / 2] << (i % 2 ? 0 : 4)) >> 4;
        return q * to_float(scales[((long long) tile * (I / group) + i / group) * 16 + column]);
    }
};
