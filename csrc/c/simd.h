// How the kernels use the machine.
#pragma once

enum { SMALL = 1 << 14 };      // fewer elements than this are done before a second thread has woken up

// One binary, several instruction sets: the compiler makes a copy of a function for each and the loader picks.

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define EACH_SIMD __attribute__((target_clones("default", "arch=haswell", "arch=skylake-avx512")))
#else
#define EACH_SIMD      // elsewhere the compiler's baseline: arm64 always has its vectors
#endif
