// The scratch memory of decode.c, carved from an array of Python: a part that the threads share, and a part per thread.
#pragma once

#include <stdatomic.h>

#include "decode_attention.h"
#include "quantized_matvec.h"

// The part of one thread.
typedef struct {
    float *rows;                       // (1 + C, widest): inputs of the next products
    q8_row *rows_q8;                   // (1 + C): the same, quantized
    decode_attention_state attention;  // over this thread's share of the keys, for the other threads to read
} thread_scratch;

typedef struct {
    atomic_int *claimed;  // (L, products): how many shares of each product of each layer are claimed
    float *q, *k, *v;     // (H, d), (K, d), (K, d)
    float *scores;        // (E): of the router
    float *gate, *up;     // (1 + C, F): the dense network's, then the chosen experts'
    float *y;             // (D): outputs of a branch before they are added to x
} shared_scratch;

// The products of a layer whose outputs are claimed; two more for each chosen expert follow.
enum { Q, K, V, O, ROUTER, GATE, UP, DOWN, EXPERT_GATE, EXPERT_UP, PRODUCTS = EXPERT_GATE };
static int products_per_layer(const decoder *model) { return PRODUCTS + 2 * model->C; }

static int max_width(const decoder *model) {
    int width = model->D > model->H * model->d ? model->D : model->H * model->d;
    for (int i = 0; i < model->L; i++) width = model->layers[i].F > width ? model->layers[i].F : width;
    return width;
}
static int max_experts(const decoder *model) {
    int E = 1;
    for (int i = 0; i < model->L; i++) E = model->layers[i].E > E ? model->layers[i].E : E;
    return E;
}

static thread_scratch thread_scratch_in(arena *a, const decoder *model) {
    int rows = 1 + model->C, width = max_width(model);
    return (thread_scratch) {
        .rows = carve_floats(a, (size_t) rows * width),
        .rows_q8 = q8_rows_in(a, rows, width),
        .attention = decode_attention_state_in(a, model->H, model->K, model->d),
    };
}
static shared_scratch shared_scratch_in(arena *a, const decoder *model) {
    size_t hidden = (1 + (size_t) model->C) * max_width(model);
    return (shared_scratch) {
        .claimed = carve(a, sizeof(atomic_int) * model->L * products_per_layer(model)),
        .q = carve_floats(a, (size_t) model->H * model->d),
        .k = carve_floats(a, (size_t) model->K * model->d),
        .v = carve_floats(a, (size_t) model->K * model->d),
        .scores = carve_floats(a, max_experts(model)),
        .gate = carve_floats(a, hidden),
        .up = carve_floats(a, hidden),
        .y = carve_floats(a, model->D),
    };
}
