// What is done to rows between the products: norms, rotation, biases.
#pragma once

#include <cmath>

#include "lanes.h"
#include "product.h"

namespace llmserve {

inline __mmask16 first_lanes(int64_t count) {
    return count >= kLanes ? static_cast<__mmask16>(0xffff)
                           : static_cast<__mmask16>((1u << count) - 1);
}

// 1 / sqrt(mean of squares + epsilon); length is a multiple of 16.
inline float inverse_norm(const float* row, int64_t length, float epsilon) {
    __m512 squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < length; i += kLanes) {
        const __m512 x = _mm512_loadu_ps(row + i);
        squares = _mm512_fmadd_ps(x, x, squares);
    }
    return 1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / static_cast<float>(length) + epsilon);
}

// RMSNorm of one row into row `index` of a product's left side.
inline void normalize(const float* row, const float* weight, int64_t length, float epsilon,
                      int64_t index, bf16* out) {
    const int64_t depth = packed_depth(length);
    const __m512 factor = _mm512_set1_ps(inverse_norm(row, length, epsilon));
    for (int64_t i = 0; i < length; i += kLanes) {
        const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(row + i), factor);
        store_bf16(out + tile_place(index, i, depth),
                   _mm512_mul_ps(x, _mm512_loadu_ps(weight + i)));
    }
}

// RMSNorm of one head in place.
inline void normalize_head(float* head, const float* weight, int64_t length, float epsilon) {
    const __m512 factor = _mm512_set1_ps(inverse_norm(head, length, epsilon));
    for (int64_t i = 0; i < length; i += kLanes) {
        const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(head + i), factor);
        _mm512_storeu_ps(head + i, _mm512_mul_ps(x, _mm512_loadu_ps(weight + i)));
    }
}

// Rotates the pairs (i, i + length/2) of a head by the angles of its position, in place.
inline void rotate_head(float* head, const float* cosines, const float* sines, int64_t length) {
    const int64_t half = length / 2;
    for (int64_t i = 0; i < half; i += kLanes) {
        const __mmask16 lanes = first_lanes(half - i);
        const __m512 x = _mm512_maskz_loadu_ps(lanes, head + i);
        const __m512 y = _mm512_maskz_loadu_ps(lanes, head + half + i);
        const __m512 cosine = _mm512_maskz_loadu_ps(lanes, cosines + i);
        const __m512 sine = _mm512_maskz_loadu_ps(lanes, sines + i);
        _mm512_mask_storeu_ps(head + i, lanes,
                              _mm512_fnmadd_ps(y, sine, _mm512_mul_ps(x, cosine)));
        _mm512_mask_storeu_ps(head + half + i, lanes,
                              _mm512_fmadd_ps(x, sine, _mm512_mul_ps(y, cosine)));
    }
}

inline void add_bias(float* row, const float* bias, int64_t length) {
    for (int64_t i = 0; i < length; i += kLanes)
        _mm512_storeu_ps(row + i,
                         _mm512_add_ps(_mm512_loadu_ps(row + i), _mm512_loadu_ps(bias + i)));
}

inline void round_row(const float* row, int64_t length, bf16* out) {
    for (int64_t i = 0; i < length; i += kLanes) store_bf16(out + i, _mm512_loadu_ps(row + i));
}

// target += factor × row
inline void add_row(float* target, const float* row, float factor, int64_t length) {
    const __m512 scale = _mm512_set1_ps(factor);
    for (int64_t i = 0; i < length; i += kLanes)
        _mm512_storeu_ps(target + i, _mm512_fmadd_ps(_mm512_loadu_ps(row + i), scale,
                                                     _mm512_loadu_ps(target + i)));
}

}  // namespace llmserve
