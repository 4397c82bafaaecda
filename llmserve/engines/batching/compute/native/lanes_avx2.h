// A part of the lanes: eight of them in a register of AVX2.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "x86.h"

namespace llmserve {

using Part = __m256;
using Words = __m256i;
using Quarter = __m128;

inline constexpr int kPartLanes = 8;
inline constexpr int kRegisters = 8;  // that hold sixteen lanes each

inline Part part_broadcast(float number) { return _mm256_set1_ps(number); }
inline Part part_load(const float* source) { return _mm256_loadu_ps(source); }
inline void part_store(float* target, Part lanes) { _mm256_storeu_ps(target, lanes); }

inline Part part_add(Part a, Part b) { return _mm256_add_ps(a, b); }
inline Part part_sub(Part a, Part b) { return _mm256_sub_ps(a, b); }
inline Part part_mul(Part a, Part b) { return _mm256_mul_ps(a, b); }
inline Part part_fmadd(Part a, Part b, Part c) { return _mm256_fmadd_ps(a, b, c); }
inline Part part_fmsub(Part a, Part b, Part c) { return _mm256_fmsub_ps(a, b, c); }
inline Part part_fnmadd(Part a, Part b, Part c) { return _mm256_fnmadd_ps(a, b, c); }
inline Part part_max(Part a, Part b) { return _mm256_max_ps(a, b); }
inline Part part_min(Part a, Part b) { return _mm256_min_ps(a, b); }

inline Quarter quarter_sum(Part lanes) {
    return _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
}
inline Part part_of_quarters(const Quarter* two) { return _mm256_set_m128(two[1], two[0]); }
inline float part_reduce_add(Part lanes) {
    const __m128 four = quarter_sum(lanes);
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float part_reduce_max(Part lanes) {
    const __m128 four =
        _mm_max_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
inline Part part_add_up_within(Part a, Part b, Part c, Part d) {
    const Part low = part_add(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const Part high = part_add(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    return part_add(_mm256_shuffle_ps(low, high, 0x44), _mm256_shuffle_ps(low, high, 0xee));
}

inline unsigned part_bits(Part lanes) {
    return static_cast<unsigned>(_mm256_movemask_ps(lanes));
}
inline unsigned part_at_least(Part a, Part b) { return part_bits(_mm256_cmp_ps(a, b, _CMP_GE_OQ)); }
inline unsigned part_equal(Part a, Part b) { return part_bits(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)); }
inline Part part_choose(unsigned bits, Part then, Part otherwise) {
    const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), each);
    return _mm256_blendv_ps(otherwise, then, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, each)));
}

inline Part part_round(Part x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// y × 2^whole; 0 where that is less than the smallest normal power.
inline Part part_times_power(Part y, Part whole) {
    const Part most = _mm256_set1_ps(127.0f), least = _mm256_set1_ps(-127.0f);
    const __m256i exponent =
        _mm256_cvtps_epi32(_mm256_max_ps(_mm256_min_ps(whole, most), least));
    const __m256i power =
        _mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(y, _mm256_castsi256_ps(power));
}
inline Part part_reciprocal_estimate(Part x) { return _mm256_rcp_ps(x); }

inline Words words_broadcast(int32_t word) { return _mm256_set1_epi32(word); }
inline Words words_load(const uint32_t* source) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
}
inline void words_store(uint32_t* target, Words words) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), words);
}
inline Words words_widened(const uint16_t* source) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
}
inline Words words_zip(const uint16_t* low, const uint16_t* high) {
    return _mm256_or_si256(words_widened(low), _mm256_slli_epi32(words_widened(high), 16));
}
inline Words words_zip_low(Words a, Words b) { return _mm256_unpacklo_epi16(a, b); }
inline Words words_zip_high(Words a, Words b) { return _mm256_unpackhi_epi16(a, b); }

// The lower number of each word, and the upper one.
inline Part part_even(Words words) { return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16)); }
inline Part part_odd(Words words) {
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000));
    return _mm256_castsi256_ps(_mm256_and_si256(words, upper));
}
inline Part part_load_bf16(const uint16_t* source) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(words_widened(source), 16));
}
// To the nearest, ties to even; what is not a number stays so.
inline void part_store_bf16(uint16_t* target, Part lanes) {
    const __m256i bits = _mm256_castps_si256(lanes);
    const __m256i even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i sum =
        _mm256_add_epi32(bits, _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i unordered = _mm256_castps_si256(_mm256_cmp_ps(lanes, lanes, _CMP_UNORD_Q));
    const __m256i words =
        _mm256_srli_epi32(_mm256_blendv_epi8(sum, quiet, unordered), 16);
    const __m128i numbers =
        _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target), numbers);
}

}  // namespace llmserve
