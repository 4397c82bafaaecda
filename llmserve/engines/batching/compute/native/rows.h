// What is done to rows between the products: norms, rotation, biases.
#pragma once

#include <cmath>

#include "lanes.h"
#include "product.h"

namespace llmserve {

// 1 / sqrt(mean of squares + epsilon); length is a multiple of 16.
inline float inverse_norm(const float* row, int64_t length, float epsilon) {
    Floats squares = zeros();
    for (int64_t i = 0; i < length; i += kLanes) {
        const Floats x = load_lanes(row + i);
        squares = fmadd(x, x, squares);
    }
    return 1.0f / std::sqrt(reduce_add(squares) / static_cast<float>(length) + epsilon);
}

// RMSNorm of one row into row `index` of a product's left side.
inline void normalize(const float* row, const float* weight, int64_t length, float epsilon,
                      int64_t index, bf16* out) {
    const int64_t depth = packed_depth(length);
    const Floats factor = broadcast(inverse_norm(row, length, epsilon));
    for (int64_t i = 0; i < length; i += kLanes) {
        const Floats x = load_lanes(row + i) * factor;
        store_bf16(out + tile_place(index, i, depth),
                   x * load_lanes(weight + i));
    }
}

// RMSNorm of one head in place.
inline void normalize_head(float* head, const float* weight, int64_t length, float epsilon) {
    const Floats factor = broadcast(inverse_norm(head, length, epsilon));
    for (int64_t i = 0; i < length; i += kLanes) {
        const Floats x = load_lanes(head + i) * factor;
        store_lanes(head + i, x * load_lanes(weight + i));
    }
}

// Rotates the pairs (i, i + length/2) of a head by the angles of its position, in place.
inline void rotate_head(float* head, const float* cosines, const float* sines, int64_t length) {
    const int64_t half = length / 2;
    for (int64_t i = 0; i < half; i += kLanes) {
        const Mask lanes = first_lanes(half - i);
        const Floats x = load_some(head + i, lanes);
        const Floats y = load_some(head + half + i, lanes);
        const Floats cosine = load_some(cosines + i, lanes);
        const Floats sine = load_some(sines + i, lanes);
        store_some(head + i, lanes, fnmadd(y, sine, x * cosine));
        store_some(head + half + i, lanes, fmadd(x, sine, y * cosine));
    }
}

inline void add_bias(float* row, const float* bias, int64_t length) {
    for (int64_t i = 0; i < length; i += kLanes)
        store_lanes(row + i,
                         load_lanes(row + i) + load_lanes(bias + i));
}

inline void round_row(const float* row, int64_t length, bf16* out) {
    for (int64_t i = 0; i < length; i += kLanes) store_bf16(out + i, load_lanes(row + i));
}

// target += factor × row
inline void add_row(float* target, const float* row, float factor, int64_t length) {
    const Floats scale = broadcast(factor);
    for (int64_t i = 0; i < length; i += kLanes)
        store_lanes(target + i, fmadd(load_lanes(row + i), scale,
                                                     load_lanes(target + i)));
}

}  // namespace llmserve
