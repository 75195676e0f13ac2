// Work claiming: the threads of a parallel region take turns in claiming the outputs of a product.
//
// Sums are never split, so the result does not depend on the number of threads.
#pragma once

#include "threads.h"

#include "quantized_matvec.h"

enum { BYTES_PER_CLAIM = 256 << 10 };  // of weights: long enough to be read as one stream
enum { MIN_OUTPUTS_PER_CLAIM = 256 };  // of weights in rows, in which outputs are adjacent

static inline int bits_per_weight(int kind) { return kind == F32 ? 32 : kind == INT8 ? 8 : kind == INT4 ? 4 : 16; }

// The next outputs that no thread has claimed yet; false if there are none.  Claims are of equal size, the same number
// for each thread, so that a delayed thread does not delay the others for long.
static int claim_outputs(atomic_int *claimed, const matrix *w, int I, int O, range *r) {
    int64_t bytes = (int64_t) I * O * bits_per_weight(w->kind) / 8, threads = thread_count();
    int64_t claims = threads * ((bytes + threads * BYTES_PER_CLAIM - 1) / (threads * BYTES_PER_CLAIM));
    int outputs = (int) ((O + claims - 1) / claims);
    if (!w->scales && w->in_stride != 1 && outputs < MIN_OUTPUTS_PER_CLAIM) outputs = MIN_OUTPUTS_PER_CLAIM;
    outputs = round_up(outputs, TILE_COLUMNS);  // full tiles and vectors
    r->begin = atomic_fetch_add_explicit(claimed, 1, memory_order_relaxed) * outputs;
    r->end = O - r->begin < outputs ? O : r->begin + outputs;
    return r->begin < O;
}
