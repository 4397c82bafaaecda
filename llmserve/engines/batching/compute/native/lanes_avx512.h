// The lanes in registers of AVX-512. With its bfloat16 instructions pairs are multiplied as they
// are, without them each number is widened.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "x86.h"

namespace llmserve {

using Floats = __m512;
using Line = __m512i;

inline constexpr int kRegisters = 32;  // that hold sixteen lanes each

inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats broadcast(float number) { return _mm512_set1_ps(number); }

inline Floats load_lanes(const float* source) { return _mm512_loadu_ps(source); }
inline void store_lanes(float* target, Floats lanes) { _mm512_storeu_ps(target, lanes); }
// The others are `rest`, and not read.
inline Floats load_some(const float* source, Mask some, Floats rest = zeros()) {
    return _mm512_mask_loadu_ps(rest, some, source);
}
inline void store_some(float* target, Mask some, Floats lanes) {
    _mm512_mask_storeu_ps(target, some, lanes);
}
// Those of `some` one after another.
inline void store_packed(float* target, Mask some, Floats lanes) {
    _mm512_mask_compressstoreu_ps(target, some, lanes);
}

// Beside + - and *, which the compiler knows.
inline Floats fmadd(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats fmsub(Floats a, Floats b, Floats c) { return _mm512_fmsub_ps(a, b, c); }
inline Floats fnmadd(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }
inline Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline float reduce_add(Floats lanes) { return _mm512_reduce_add_ps(lanes); }
inline float reduce_max(Floats lanes) { return _mm512_reduce_max_ps(lanes); }

inline Mask at_least(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
inline Mask equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
inline Mask not_numbers(Floats a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
inline Floats choose(Mask some, Floats then, Floats otherwise) {
    return _mm512_mask_blend_ps(some, otherwise, then);
}

inline Floats round_lanes(Floats x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// y × 2^whole
inline Floats times_power(Floats y, Floats whole) { return _mm512_scalef_ps(y, whole); }
inline Floats reciprocal_estimate(Floats x) { return _mm512_rcp14_ps(x); }

inline Line load_line(const void* source) { return _mm512_loadu_si512(source); }
// The first `count` of 32 numbers; the others are zero, and not read.
inline Line load_line_first(const bf16* source, int64_t count) {
    const __mmask32 some = count >= 32 ? 0xffffffffu : (1u << count) - 1;
    return _mm512_maskz_loadu_epi16(some, source);
}
inline Line zero_line() { return _mm512_setzero_si512(); }
inline void store_line(void* target, Line line) { _mm512_storeu_si512(target, line); }

// Lanes in [oldest, newest] of whole numbers.
inline Mask within(int32_t number, const int32_t* oldest, const int32_t* newest) {
    const __m512i at = _mm512_set1_epi32(number);
    return _mm512_cmple_epi32_mask(at, _mm512_loadu_si512(newest)) &
           _mm512_cmpge_epi32_mask(at, _mm512_loadu_si512(oldest));
}

// In place: 16 rows of 16 words become 16 columns.
inline void transpose(Line row[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        row[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        row[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        row[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        row[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
        row[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        row[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        row[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        row[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

// Of four rows: each quarter of the result has the sums of that quarter of each row.
inline Floats add_up_within(const Floats rows[4]) {
    const __m512 low = _mm512_add_ps(_mm512_unpacklo_ps(rows[0], rows[1]),
                                     _mm512_unpackhi_ps(rows[0], rows[1]));
    const __m512 high = _mm512_add_ps(_mm512_unpacklo_ps(rows[2], rows[3]),
                                      _mm512_unpackhi_ps(rows[2], rows[3]));
    return _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x44), _mm512_shuffle_ps(low, high, 0xee));
}

// Of four such results: the sums of all 16 rows.
inline Floats add_up_across(const Floats quarters[4]) {
    const __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(quarters[0], quarters[1], 0x44),
                                     _mm512_shuffle_f32x4(quarters[0], quarters[1], 0xee));
    const __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(quarters[2], quarters[3], 0x44),
                                      _mm512_shuffle_f32x4(quarters[2], quarters[3], 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88),
                         _mm512_shuffle_f32x4(low, high, 0xdd));
}

inline Floats widened(__m256i numbers) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(numbers), 16));
}
inline Floats load_bf16(const bf16* source) {
    return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
}

#if LLMSERVE_MULTIPLIES_PAIRS

using Pairs = __m512bh;

inline __m256i rounded(Floats lanes) { return (__m256i)_mm512_cvtneps_pbh(lanes); }
inline Pairs pairs_of(Line line) { return (Pairs)line; }

// sum + a's and b's numbers multiplied, both products of a lane in one step.
inline Floats dot(Floats sum, Pairs a, Pairs b) { return _mm512_dpbf16_ps(sum, a, b); }

#else

// Each number apart, as float32.
struct Pairs {
    Floats even, odd;
};

// To the nearest, ties to even; what is not a number stays so.
inline __m256i rounded(Floats lanes) {
    const __m512i bits = _mm512_castps_si512(lanes);
    const __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i sum =
        _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(
        _mm512_srli_epi32(_mm512_mask_mov_epi32(sum, not_numbers(lanes), quiet), 16));
}
inline Pairs pairs_of(Line line) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(line, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(line, _mm512_set1_epi32(0xffff0000)))};
}
inline Floats dot(Floats sum, Pairs a, Pairs b) {
    return fmadd(a.odd, b.odd, fmadd(a.even, b.even, sum));
}

#endif

inline Pairs load_pairs(const bf16* source) { return pairs_of(load_line(source)); }
// The same pair in every lane.
inline Pairs broadcast_pair(const bf16* pair) {
    return pairs_of(_mm512_set1_epi32(word_of(pair)));
}

inline void store_bf16(bf16* target, Floats lanes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), rounded(lanes));
}
inline void store_some_bf16(bf16* target, Mask some, Floats lanes) {
    _mm256_mask_storeu_epi16(target, some, rounded(lanes));
}
// (low 0, high 0), (low 1, high 1), ... from sixteen numbers each.
inline Line zipped(__m256i low, __m256i high) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(low),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
}
inline void store_zipped(bf16* target, Floats low, Floats high) {
    store_line(target, zipped(rounded(low), rounded(high)));
}
// Either may be null: zeros.
inline Line zip_rows(const bf16* low, const bf16* high) {
    const auto load = [](const bf16* row) {
        return row == nullptr ? _mm256_setzero_si256()
                              : _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row));
    };
    return zipped(load(low), load(high));
}

// Pairs of two rows of 32 numbers, quarter by quarter: those of the first half of each quarter, and
// those of the second. `in_order` undoes that for what becomes of them.
struct ZippedQuarters {
    Pairs first, second;
};
inline ZippedQuarters zip_quarters(const bf16* low, const bf16* high) {
    const __m512i a = load_line(low), b = load_line(high);
    return {pairs_of(_mm512_unpacklo_epi16(a, b)), pairs_of(_mm512_unpackhi_epi16(a, b))};
}
// Lanes 0-15 of 32 (from 0), or 16-31 (from 8), in their true order.
inline Floats in_order(Floats first, Floats second, int from) {
    const __m512i places = _mm512_add_epi32(
        _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23),
        _mm512_set1_epi32(from));
    return _mm512_permutex2var_ps(first, places, second);
}

}  // namespace llmserve
