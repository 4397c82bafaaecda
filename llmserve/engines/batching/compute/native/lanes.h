// Sixteen float32 lanes: bfloat16 in and out, 2^x, a transpose. Knows no model.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace llmserve {

using bf16 = uint16_t;

inline constexpr int64_t kLanes = 16;

inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

inline __m512 load_bf16(const bf16* source) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

inline void store_bf16(bf16* target, __m512 lanes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), (__m256i)_mm512_cvtneps_pbh(lanes));
}

// Two neighbouring bfloat16 numbers in every lane, as dot products take them.
inline __m512bh broadcast_pair(const bf16* pair) {
    int32_t word;
    std::memcpy(&word, pair, sizeof word);
    return (__m512bh)_mm512_set1_epi32(word);
}

inline __m512bh load_pairs(const bf16* source) { return (__m512bh)_mm512_loadu_si512(source); }

// Prefetch a cache line: into the first level, or into the second. GCC thinks that a function which
// does nothing else has no effect, and drops its calls; hence the attribute, and `keep_prefetches`
// where such a function cannot be inlined. (Inline assembly would make it spill all sums.)
[[gnu::always_inline]] inline void prefetch_line(const void* address) {
    _mm_prefetch(address, _MM_HINT_T0);
}
[[gnu::always_inline]] inline void prefetch_line_near(const void* address) {
    _mm_prefetch(address, _MM_HINT_T1);
}
inline void keep_prefetches() { asm volatile(""); }

// While it lives, this thread's denormal results are flushed to zero: each would cost a hundred
// cycles and mean nothing.
class FlushTiny {
  public:
    FlushTiny() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~FlushTiny() { _mm_setcsr(before_); }
    FlushTiny(const FlushTiny&) = delete;
    FlushTiny& operator=(const FlushTiny&) = delete;

  private:
    const unsigned before_;
};

// 2^x with a relative error of 4e-6, far below the precision of bfloat16; 0 from -150 down, but not
// for minus infinity. The polynomial interpolates 2^f at the Chebyshev nodes of [-1/2, 1/2].
inline __m512 exp2_lanes(__m512 x) {
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_set1_ps(9.66636852e-03f);
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.59219758e-02f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.40223490e-01f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.93121045e-01f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, whole);
}

// x / (1 + e^-x)
inline __m512 silu_lanes(__m512 x) {
    // Beyond 2^100 the quotient is zero in bfloat16 anyway, and the estimate below stays finite.
    const __m512 power = _mm512_min_ps(_mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f)),
                                       _mm512_set1_ps(100.0f));
    const __m512 divisor = _mm512_add_ps(_mm512_set1_ps(1.0f), exp2_lanes(power));
    // An estimate of 14 bits and one step of Newton's method: a third of a division's time.
    const __m512 estimate = _mm512_rcp14_ps(divisor);
    const __m512 rest = _mm512_fnmadd_ps(divisor, estimate, _mm512_set1_ps(2.0f));
    return _mm512_mul_ps(x, _mm512_mul_ps(estimate, rest));
}

// In place: 16 rows of 16 words become 16 columns.
inline void transpose(__m512i row[16]) {
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

}  // namespace llmserve
