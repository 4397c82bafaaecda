// The lanes in several registers, or parts: eight lanes of AVX2 each, or four of NEON. A part's own
// operations are in lanes_avx2.h and lanes_neon.h; here they are done for all parts.
#pragma once

#include <bit>
#include <cstdint>

#if defined(__AVX2__)
#include "lanes_avx2.h"
#elif defined(__ARM_NEON)
#include "lanes_neon.h"
#else
#error "no lanes for this processor"
#endif

namespace llmserve {

inline constexpr int kParts = kLanes / kPartLanes;

struct Floats {
    Part part[kParts];
};
struct Line {
    Words part[kParts];
};

template <class Result, class Make>
[[gnu::always_inline]] inline Result of_parts(Make make) {
    Result result;
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) result.part[i] = make(i);
    return result;
}
template <class Make>
[[gnu::always_inline]] inline Floats floats(Make make) {
    return of_parts<Floats>(make);
}
// The bits of all parts.
template <class Compare>
[[gnu::always_inline]] inline Mask mask(Compare compare) {
    unsigned bits = 0;
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) bits |= compare(i) << (i * kPartLanes);
    return static_cast<Mask>(bits);
}
inline unsigned part_of(Mask bits, int i) {
    return (bits >> (i * kPartLanes)) & ((1u << kPartLanes) - 1);
}

inline Floats broadcast(float number) {
    return floats([=](int) { return part_broadcast(number); });
}
inline Floats zeros() { return broadcast(0.0f); }

inline Floats load_lanes(const float* source) {
    return floats([=](int i) { return part_load(source + i * kPartLanes); });
}
inline void store_lanes(float* target, Floats lanes) {
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) part_store(target + i * kPartLanes, lanes.part[i]);
}

[[gnu::always_inline]] inline Floats operator+(Floats a, Floats b) {
    return floats([&](int i) { return part_add(a.part[i], b.part[i]); });
}
[[gnu::always_inline]] inline Floats operator-(Floats a, Floats b) {
    return floats([&](int i) { return part_sub(a.part[i], b.part[i]); });
}
[[gnu::always_inline]] inline Floats operator*(Floats a, Floats b) {
    return floats([&](int i) { return part_mul(a.part[i], b.part[i]); });
}
[[gnu::always_inline]] inline Floats fmadd(Floats a, Floats b, Floats c) {
    return floats([&](int i) { return part_fmadd(a.part[i], b.part[i], c.part[i]); });
}
[[gnu::always_inline]] inline Floats fnmadd(Floats a, Floats b, Floats c) {
    return floats([&](int i) { return part_fnmadd(a.part[i], b.part[i], c.part[i]); });
}
[[gnu::always_inline]] inline Floats fmsub(Floats a, Floats b, Floats c) {
    return floats([&](int i) { return part_fmsub(a.part[i], b.part[i], c.part[i]); });
}
inline Floats larger(Floats a, Floats b) {
    return floats([&](int i) { return part_max(a.part[i], b.part[i]); });
}
inline Floats smaller(Floats a, Floats b) {
    return floats([&](int i) { return part_min(a.part[i], b.part[i]); });
}

inline float reduce_add(Floats lanes) {
    Part sum = lanes.part[0];
    for (int i = 1; i < kParts; ++i) sum = part_add(sum, lanes.part[i]);
    return part_reduce_add(sum);
}
inline float reduce_max(Floats lanes) {
    Part most = lanes.part[0];
    for (int i = 1; i < kParts; ++i) most = part_max(most, lanes.part[i]);
    return part_reduce_max(most);
}

inline Mask at_least(Floats a, Floats b) {
    return mask([&](int i) { return part_at_least(a.part[i], b.part[i]); });
}
inline Mask equal(Floats a, Floats b) {
    return mask([&](int i) { return part_equal(a.part[i], b.part[i]); });
}
inline Mask not_numbers(Floats a) {
    return static_cast<Mask>(~equal(a, a));
}
inline Floats choose(Mask some, Floats then, Floats otherwise) {
    return floats([&](int i) {
        return part_choose(part_of(some, i), then.part[i], otherwise.part[i]);
    });
}

// The others are `rest`, and not read.
inline Floats load_some(const float* source, Mask some, Floats rest = zeros()) {
    if (some == kAllLanes) return load_lanes(source);
    alignas(64) float lanes[kLanes];
    store_lanes(lanes, rest);
    for (unsigned left = some; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        lanes[lane] = source[lane];
    }
    return load_lanes(lanes);
}
inline void store_some(float* target, Mask some, Floats lanes) {
    if (some == kAllLanes) return store_lanes(target, lanes);
    alignas(64) float all[kLanes];
    store_lanes(all, lanes);
    for (unsigned left = some; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        target[lane] = all[lane];
    }
}
// Those of `some` one after another.
inline void store_packed(float* target, Mask some, Floats lanes) {
    alignas(64) float all[kLanes];
    store_lanes(all, lanes);
    for (unsigned left = some; left != 0; left &= left - 1)
        *target++ = all[std::countr_zero(left)];
}

inline Floats round_lanes(Floats x) {
    return floats([&](int i) { return part_round(x.part[i]); });
}
// y × 2^whole
inline Floats times_power(Floats y, Floats whole) {
    return floats([&](int i) { return part_times_power(y.part[i], whole.part[i]); });
}
inline Floats reciprocal_estimate(Floats x) {
    return floats([&](int i) { return part_reciprocal_estimate(x.part[i]); });
}

inline Line load_line(const void* source) {
    const auto* words = static_cast<const uint32_t*>(source);
    return of_parts<Line>([=](int i) { return words_load(words + i * kPartLanes); });
}
inline void store_line(void* target, Line line) {
    auto* words = static_cast<uint32_t*>(target);
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) words_store(words + i * kPartLanes, line.part[i]);
}
// The first `count` of 32 numbers; the others are zero, and not read.
inline Line load_line_first(const bf16* source, int64_t count) {
    if (count >= 2 * kLanes) return load_line(source);
    alignas(64) bf16 numbers[2 * kLanes] = {};
    std::memcpy(numbers, source, count * sizeof(bf16));
    return load_line(numbers);
}
inline Line zero_line() {
    return of_parts<Line>([](int) { return words_broadcast(0); });
}

// Lanes in [oldest, newest] of whole numbers.
inline Mask within(int32_t number, const int32_t* oldest, const int32_t* newest) {
    unsigned bits = 0;
    for (int i = 0; i < kLanes; ++i)
        bits |= static_cast<unsigned>(oldest[i] <= number && number <= newest[i]) << i;
    return static_cast<Mask>(bits);
}

// In place: 16 rows of 16 words become 16 columns.
inline void transpose(Line row[16]) {
    alignas(64) uint32_t words[16][16];
    for (int i = 0; i < 16; ++i) store_line(words[i], row[i]);
    for (int i = 0; i < 16; ++i) {
        alignas(64) uint32_t column[16];
        for (int j = 0; j < 16; ++j) column[j] = words[j][i];
        row[i] = load_line(column);
    }
}

// Of four rows: each quarter of the result has the sums of that quarter of each row.
[[gnu::always_inline]] inline Floats add_up_within(const Floats rows[4]) {
    return floats([&](int i) {
        return part_add_up_within(rows[0].part[i], rows[1].part[i], rows[2].part[i],
                                  rows[3].part[i]);
    });
}
// Of four such results: the sums of all 16 rows.
inline Floats add_up_across(const Floats quarters[4]) {
    Quarter sums[4];
    for (int i = 0; i < 4; ++i) {
        Part sum = quarters[i].part[0];
        for (int j = 1; j < kParts; ++j) sum = part_add(sum, quarters[i].part[j]);
        sums[i] = quarter_sum(sum);
    }
    return floats([&](int i) { return part_of_quarters(sums + i * kPartLanes / 4); });
}

inline Floats load_bf16(const bf16* source) {
    return floats([=](int i) { return part_load_bf16(source + i * kPartLanes); });
}
inline void store_bf16(bf16* target, Floats lanes) {
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) part_store_bf16(target + i * kPartLanes, lanes.part[i]);
}
inline void store_some_bf16(bf16* target, Mask some, Floats lanes) {
    if (some == kAllLanes) return store_bf16(target, lanes);
    alignas(64) bf16 all[kLanes];
    store_bf16(all, lanes);
    for (unsigned left = some; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        target[lane] = all[lane];
    }
}

// (low 0, high 0), (low 1, high 1), ...: the words of one after another.
inline Line zipped(const bf16* low, const bf16* high) {
    return of_parts<Line>([=](int i) {
        return words_zip(low + i * kPartLanes, high + i * kPartLanes);
    });
}
inline void store_zipped(bf16* target, Floats low, Floats high) {
    alignas(64) bf16 numbers[2 * kLanes];
    store_bf16(numbers, low);
    store_bf16(numbers + kLanes, high);
    store_line(target, zipped(numbers, numbers + kLanes));
}
// Either may be null: zeros.
inline Line zip_rows(const bf16* low, const bf16* high) {
    alignas(64) static constexpr bf16 nothing[kLanes] = {};
    return zipped(low == nullptr ? nothing : low, high == nullptr ? nothing : high);
}

#if LLMSERVE_MULTIPLIES_PAIRS

struct Pairs {
    Words part[kParts];
};
[[gnu::always_inline]] inline Pairs pairs_of(Line line) {
    return of_parts<Pairs>([&](int i) { return line.part[i]; });
}
// sum + a's and b's numbers multiplied, both products of a lane in one step.
[[gnu::always_inline]] inline Floats dot(Floats sum, Pairs a, Pairs b) {
    return floats([&](int i) { return part_dot(sum.part[i], a.part[i], b.part[i]); });
}

#else

// Each number apart, as float32.
struct Pairs {
    Floats even, odd;
};
[[gnu::always_inline]] inline Pairs pairs_of(Line line) {
    return {floats([&](int i) { return part_even(line.part[i]); }),
            floats([&](int i) { return part_odd(line.part[i]); })};
}
[[gnu::always_inline]] inline Floats dot(Floats sum, Pairs a, Pairs b) {
    return fmadd(a.odd, b.odd, fmadd(a.even, b.even, sum));
}

#endif

inline Pairs load_pairs(const bf16* source) { return pairs_of(load_line(source)); }
// The same pair in every lane.
inline Pairs broadcast_pair(const bf16* pair) {
    const Words words = words_broadcast(word_of(pair));
    return pairs_of(of_parts<Line>([=](int) { return words; }));
}

// Pairs of two rows of 32 numbers, quarter by quarter: those of the first half of each quarter, and
// those of the second. `in_order` undoes that for what becomes of them.
struct ZippedQuarters {
    Pairs first, second;
};
inline ZippedQuarters zip_quarters(const bf16* low, const bf16* high) {
    const Line a = load_line(low), b = load_line(high);
    return {pairs_of(of_parts<Line>([&](int i) { return words_zip_low(a.part[i], b.part[i]); })),
            pairs_of(of_parts<Line>([&](int i) { return words_zip_high(a.part[i], b.part[i]); }))};
}
// Lanes 0-15 of 32 (from 0), or 16-31 (from 8), in their true order.
inline Floats in_order(Floats first, Floats second, int from) {
    alignas(64) float a[kLanes], b[kLanes], ordered[kLanes];
    store_lanes(a, first);
    store_lanes(b, second);
    for (int i = 0; i < 4; ++i) {
        ordered[i] = a[from + i];
        ordered[4 + i] = b[from + i];
        ordered[8 + i] = a[from + 4 + i];
        ordered[12 + i] = b[from + 4 + i];
    }
    return load_lanes(ordered);
}

}  // namespace llmserve
