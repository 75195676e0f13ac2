// Store one head's key or value in a cache (S, K, d), in the format of the cache.
#pragma once

#include <math.h>

#include "simd.h"

// One group of a key or value as integers and a scale, exactly as `quantize_rows` makes them (reference/quantize.py).
static void kv_store_quantized_group(const kv_view *k, const float *x, ptrdiff_t at) {
    float abs_max = 1e-6f;
    for (int i = 0; i < k->group; i++) abs_max = fabsf(x[i]) > abs_max ? fabsf(x[i]) : abs_max;
    float exact = abs_max / (k->kind == INT4 ? 8.0f : 127.0f);
    uint16_t half = to_bf16_scalar(exact);
    if (from_bf16_scalar(half) < exact) half++;  // round up, so that the largest element is representable
    float scale = from_bf16_scalar(half);
    ((uint16_t *) k->scales)[at / k->group] = half;
    for (int i = 0; i < k->group; i++) {
        float rounded = rintf(x[i] / scale);
        if (k->kind == INT8) {
            ((int8_t *) k->values)[at + i] = (int8_t) (rounded > 127 ? 127 : rounded < -127 ? -127 : (int) rounded);
            continue;
        }
        int nibble = (rounded > 7 ? 7 : rounded < -8 ? -8 : (int) rounded) & 15;
        uint8_t *pair = (uint8_t *) k->values + (at + i) / 2;
        *pair = (uint8_t) ((at + i) % 2 ? (*pair & 15) | nibble << 4 : nibble);
    }
}

// One head's key or value (d), to element `at` of the cache onwards.
static void kv_store(const kv_view *k, const float *row, ptrdiff_t at, int d) {
    if (k->kind == F32) memcpy((float *) k->values + at, row, sizeof(float) * (size_t) d);
    else if (k->kind == BF16)
        for (int i = 0; i < d; i++) ((uint16_t *) k->values)[at + i] = to_bf16_scalar(row[i]);
    else
        for (int g = 0; g < d / k->group; g++)
            kv_store_quantized_group(k, row + g * k->group, at + (ptrdiff_t) g * k->group);
}
