// bfloat16 is the upper half of a float32: widening it appends sixteen zero bits and is exact.
#pragma once

typedef unsigned short bf16;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bf16 x) { return __uint_as_float((unsigned) x << 16); }
