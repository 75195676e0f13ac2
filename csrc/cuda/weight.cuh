// A matrix (I, O) in whichever form a checkpoint holds it: a struct that says what the weight of input i and output o is.
#pragma once

#include "bf16.cuh"

// Plain numbers.  A product's formula has them as (in, out), most files as (out, in); so the steps to the next input and
// to the next output come along, one of them is 1, and nothing is copied to turn a matrix round.
template <class Number> struct Plain {
    const Number *values;
    long long in, out;

    __device__ bool along_inputs() const { return in == 1; }       // which way its numbers lie side by side
    __device__ float at(int i, int o) const { return widened(values[i * in + o * out]); }
};

// Integers of 8 or 4 bits in the tiles of tinyscout/reference/quantize.py: 16 columns, of each 4 bytes side by side.
template <int BITS, class Scale> struct Few {
    const unsigned char *values;
    const Scale *scales;
    int group, I;                                   // inputs that share a scale; inputs

    __device__ bool along_inputs() const { return false; }
    __device__ float at(int i, int o) const {
        constexpr int EACH = 32 / BITS;             // inputs in four bytes
        int tile = o / 16, column = o % 16;
        const unsigned char *four = values + (((long long) tile * (I / EACH) + i / EACH) * 16 + column) * 4;
        int q = BITS == 8 ? (signed char) four[i % 4] : (signed char) (four[i % 8 / 2] << (i % 2 ? 0 : 4)) >> 4;
        return q * widened(scales[((long long) tile * (I / group) + i / group) * 16 + column]);
    }
};
