// Sixteen float32 lanes, on whatever instruction set this is compiled for: the only place that knows
// one (tiles.h knows AMX). Knows no model.
//
//   Floats  sixteen float32 numbers
//   Pairs   sixteen pairs of bfloat16 numbers, the operands of `dot`
//   Line    sixteen words of 32 bits
//   Mask    a bit for each lane
//
// lanes_avx512.h has them in one register, lanes_parts.h in two of AVX2 or four of NEON.
#pragma once

#include <cstdint>
#include <cstring>

// Whether a processor multiplies pairs of bfloat16 numbers as they are.
#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define LLMSERVE_MULTIPLIES_PAIRS 1
#else
#define LLMSERVE_MULTIPLIES_PAIRS 0
#endif

namespace llmserve {

using bf16 = uint16_t;
using Mask = uint16_t;

inline constexpr int64_t kLanes = 16;
inline constexpr Mask kAllLanes = 0xffff;

inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

inline Mask first_lanes(int64_t count) {
    return count >= kLanes ? kAllLanes : static_cast<Mask>((1u << count) - 1);
}

// Two neighbouring bfloat16 numbers as one word.
inline int32_t word_of(const bf16* pair) {
    int32_t word;
    std::memcpy(&word, pair, sizeof word);
    return word;
}

}  // namespace llmserve

#if defined(__AVX512F__)
#include "lanes_avx512.h"
#else
#include "lanes_parts.h"
#endif

namespace llmserve {

// Prefetch a cache line: into the first level, or into the second. GCC thinks that a function which
// does nothing else has no effect, and drops its calls; hence the attribute, and `keep_prefetches`
// where such a function cannot be inlined. (Inline assembly would make it spill all sums.)
[[gnu::always_inline]] inline void prefetch_line(const void* address) {
    __builtin_prefetch(address, 0, 3);
}
[[gnu::always_inline]] inline void prefetch_line_near(const void* address) {
    __builtin_prefetch(address, 0, 2);
}
inline void keep_prefetches() { asm volatile(""); }

// How far ahead weights are prefetched, in numbers of one panel's stream: farther wastes more at
// the ends of small panels, nearer is too late.
inline constexpr int64_t kAhead = 1024;

// 2^x with a relative error of 4e-6, far below the precision of bfloat16; 0 from -150 down, but not
// for minus infinity. The polynomial interpolates 2^f at the Chebyshev nodes of [-1/2, 1/2].
inline Floats exp2_lanes(Floats x) {
    const Floats whole = round_lanes(x);
    const Floats f = x - whole;
    Floats y = broadcast(9.66636852e-03f);
    y = fmadd(y, f, broadcast(5.59219758e-02f));
    y = fmadd(y, f, broadcast(2.40223490e-01f));
    y = fmadd(y, f, broadcast(6.93121045e-01f));
    y = fmadd(y, f, broadcast(1.0f));
    return times_power(y, whole);
}

// x / (1 + e^-x)
inline Floats silu_lanes(Floats x) {
    // Beyond 2^100 the quotient is zero in bfloat16 anyway, and the estimate below stays finite.
    const Floats power = smaller(x * broadcast(-1.44269504f), broadcast(100.0f));
    const Floats divisor = broadcast(1.0f) + exp2_lanes(power);
    // An estimate and one step of Newton's method: a third of a division's time.
    const Floats estimate = reciprocal_estimate(divisor);
    return x * (estimate * fnmadd(divisor, estimate, broadcast(2.0f)));
}

}  // namespace llmserve
