// Attention of few query lanes over the paged cache, as at decode: whole rows of keys are
// multiplied and summed afterwards, so that each instruction works on numbers of one query.
//
//   scores (lanes, keys) = queries × keys' → weights → sums += weights × values, two keys at a time
//
// Values are read in place, two rows interleaved word by word, so that every 32 numbers of a sum
// are permuted until `finish`.
#pragma once

#include <algorithm>
#include <type_traits>

#include "attention_chunk.h"
#include "attention_scratch.h"
#include "attention_task.h"
#include "lanes.h"

namespace llmserve {

class FewLanes {
  public:
    // With AMX full tiles are cheap, so this pays for fewer lanes only.
    static bool suits(const AttentionLayer& layer, const AttentionTask& task) {
        return task.num_lanes <= (layer.tiles ? kTogether : kMost) &&
               layer.cache.block_size % 16 == 0 && layer.cache.head_dim % 32 == 0;
    }

    FewLanes(const AttentionLayer& layer, const AttentionRow& row, const AttentionTask& task,
             AttentionScratch& scratch)
        : layer_(layer), cache_(layer.cache), dim_(cache_.head_dim), lanes_(task.num_lanes),
          scratch_(scratch) {
        const int64_t group = layer.query_heads / cache_.kv_heads;
        for (int64_t lane = 0; lane < lanes_; ++lane) {
            const int64_t token = task.token(lane, group), head = task.head(lane, group);
            queries_[lane] =
                layer.queries + ((row.first_token + token) * layer.query_heads + head) * dim_;
            positions_[lane] = row.first_position + token;
            totals_[lane] = _mm512_setzero_ps();
            scratch.maximum[lane] = kUnseen;
        }
        std::memset(scratch.sums.data(), 0, lanes_ * dim_ * sizeof(float));
    }

    void take(const Chunk& chunk, const Chunk& next) {
        for (int64_t first = 0; first < lanes_; first += kTogether)
            with_lanes(first, [&](auto lanes) { score<lanes()>(first, chunk, next); });
        for (int64_t lane = 0; lane < lanes_; ++lane) softmax(lane, chunk);
        for (int64_t first = 0; first < lanes_; first += kTogether)
            with_lanes(first, [&](auto lanes) { mix<lanes()>(first, chunk, next); });
    }

    // Leaves maxima, totals and sums as `ManyLanes` does.
    void finish() {
        for (int64_t lane = 0; lane < lanes_; ++lane) {
            scratch_.total[lane] = _mm512_reduce_add_ps(totals_[lane]);
            float* sums = scratch_.sums.data() + lane * dim_;
            for (int64_t i = 0; i < dim_; i += 32) {
                const __m512 even = _mm512_loadu_ps(sums + i), odd = _mm512_loadu_ps(sums + i + 16);
                _mm512_storeu_ps(sums + i, in_order(even, 0, odd));
                _mm512_storeu_ps(sums + i + 16, in_order(even, 8, odd));
            }
        }
    }

  private:
    static constexpr int64_t kMost = 8;
    static constexpr int kTogether = 4;  // lanes whose sums fit into the registers

    // Calls with the number of lanes from `first` on, at most `kTogether`, as a constant.
    template <class Run>
    void with_lanes(int64_t first, Run run) const {
        switch (std::min<int64_t>(lanes_ - first, kTogether)) {
            case 1: return run(std::integral_constant<int, 1>());
            case 2: return run(std::integral_constant<int, 2>());
            case 3: return run(std::integral_constant<int, 3>());
            default: return run(std::integral_constant<int, kTogether>());
        }
    }

    float* scores(int64_t lane) const { return scratch_.scores.data() + lane * kChunk; }
    bf16* weights(int64_t lane) const { return scratch_.pairs.data() + lane * kChunk; }

    template <int L>
    void score(int64_t first, const Chunk& chunk, const Chunk& next) const {
        for (int64_t key = 0; key < chunk.keys; key += 16) {
            const bf16* rows = cache_.keys + chunk.offsets[key];
            __m512 quarters[L][4];
            for (int quarter = 0; quarter < 4; ++quarter, rows += 4 * dim_) {
                if (first == 0)
                    for (int i = 0; i < 4; ++i)
                        next.prefetch(cache_.keys, key + quarter * 4 + i, dim_);
                __m512 sums[L][4];
                for (auto& lane : sums)
                    for (auto& sum : lane) sum = _mm512_setzero_ps();
                for (int64_t k = 0; k < dim_; k += 32)
                    for (int i = 0; i < 4; ++i) {
                        const __m512bh numbers = load_pairs(rows + i * dim_ + k);
                        for (int l = 0; l < L; ++l)
                            sums[l][i] = _mm512_dpbf16_ps(sums[l][i], numbers,
                                                          load_pairs(queries_[first + l] + k));
                    }
                for (int l = 0; l < L; ++l) quarters[l][quarter] = add_up_within(sums[l]);
            }
            for (int l = 0; l < L; ++l)
                _mm512_storeu_ps(scores(first + l) + key, add_up_across(quarters[l]));
        }
        // The next chunk may have more keys than this one.
        if (first == 0)
            for (int64_t key = round_up(chunk.keys, 16); key < next.keys; ++key)
                next.prefetch(cache_.keys, key, dim_);
    }

    // Of four rows of 16 numbers: each quarter of the result has the sums of that quarter of each
    // row.
    static __m512 add_up_within(const __m512 rows[4]) {
        const __m512 low = _mm512_add_ps(_mm512_unpacklo_ps(rows[0], rows[1]),
                                         _mm512_unpackhi_ps(rows[0], rows[1]));
        const __m512 high = _mm512_add_ps(_mm512_unpacklo_ps(rows[2], rows[3]),
                                          _mm512_unpackhi_ps(rows[2], rows[3]));
        return _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x44),
                             _mm512_shuffle_ps(low, high, 0xee));
    }

    // Of four such results: the sums of all 16 rows.
    static __m512 add_up_across(const __m512 quarters[4]) {
        const __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(quarters[0], quarters[1], 0x44),
                                         _mm512_shuffle_f32x4(quarters[0], quarters[1], 0xee));
        const __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(quarters[2], quarters[3], 0x44),
                                          _mm512_shuffle_f32x4(quarters[2], quarters[3], 0xee));
        return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88),
                             _mm512_shuffle_f32x4(low, high, 0xdd));
    }

    // Turns scores into weights, and updates running maximum, total and sums.
    void softmax(int64_t lane, const Chunk& chunk) {
        __m512 low = _mm512_loadu_ps(scores(lane)), high = _mm512_loadu_ps(scores(lane) + 16);
        const int64_t newest = positions_[lane];
        const int64_t oldest = layer_.window > 0 ? newest - layer_.window + 1 : 0;
        if (chunk.keys < kChunk || chunk.first + kChunk - 1 > newest || chunk.first < oldest) {
            const __m512 unseen = _mm512_set1_ps(kUnseen);
            low = _mm512_mask_mov_ps(low, hidden(chunk, 0, oldest, newest), unseen);
            high = _mm512_mask_mov_ps(high, hidden(chunk, 16, oldest, newest), unseen);
        }
        const float before = scratch_.maximum[lane];
        const float after = std::max(before, _mm512_reduce_max_ps(_mm512_max_ps(low, high)));
        const __m512 scale = _mm512_set1_ps(layer_.scale * 1.44269504f);
        // Far above kUnseen: a lane that has seen no key yet gets weights of zero, not one.
        const __m512 base = _mm512_mul_ps(scale, _mm512_set1_ps(std::max(after, kUnseen / 8)));
        if (after > before) {
            const __m512 factor = exp2_lanes(_mm512_fmsub_ps(_mm512_set1_ps(before), scale, base));
            totals_[lane] = _mm512_mul_ps(totals_[lane], factor);
            float* sums = scratch_.sums.data() + lane * dim_;
            for (int64_t i = 0; i < dim_; i += kLanes)
                _mm512_storeu_ps(sums + i, _mm512_mul_ps(_mm512_loadu_ps(sums + i), factor));
            scratch_.maximum[lane] = after;
        }
        low = exp2_lanes(_mm512_fmsub_ps(low, scale, base));
        high = exp2_lanes(_mm512_fmsub_ps(high, scale, base));
        totals_[lane] = _mm512_add_ps(totals_[lane], _mm512_add_ps(low, high));
        _mm512_storeu_si512(weights(lane), (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }

    // Those of 16 keys of a chunk that a lane must not see.
    static __mmask16 hidden(const Chunk& chunk, int64_t key, int64_t oldest, int64_t newest) {
        const int64_t begin = std::clamp<int64_t>(oldest - chunk.first - key, 0, 16);
        const int64_t until = std::min(chunk.keys, newest + 1 - chunk.first) - key;
        const int64_t end = std::clamp<int64_t>(until, begin, 16);
        return static_cast<__mmask16>(~((1u << end) - (1u << begin)));
    }

    template <int L>
    void mix(int64_t first, const Chunk& chunk, const Chunk& next) const {
        float* target = scratch_.sums.data() + first * dim_;
        for (int64_t i = 0; i < dim_; i += 32, target += 32) {
            __m512 even[L], odd[L];
            for (int l = 0; l < L; ++l) {
                even[l] = _mm512_loadu_ps(target + l * dim_);
                odd[l] = _mm512_loadu_ps(target + l * dim_ + 16);
            }
            for (int64_t key = 0; key < chunk.keys; key += 2) {
                if (first == 0 && i == 0) {
                    next.prefetch(cache_.values, key, dim_);
                    next.prefetch(cache_.values, key + 1, dim_);
                }
                // An odd last key is paired with itself, with a weight of zero: behind it the block
                // may hold anything.
                const int64_t second = std::min(key + 1, chunk.keys - 1);
                const __m512i a = _mm512_loadu_si512(cache_.values + chunk.offsets[key] + i);
                const __m512i b = _mm512_loadu_si512(cache_.values + chunk.offsets[second] + i);
                const __m512bh low = (__m512bh)_mm512_unpacklo_epi16(a, b);
                const __m512bh high = (__m512bh)_mm512_unpackhi_epi16(a, b);
                for (int l = 0; l < L; ++l) {
                    const __m512bh weight = broadcast_pair(weights(first + l) + key);
                    even[l] = _mm512_dpbf16_ps(even[l], weight, low);
                    odd[l] = _mm512_dpbf16_ps(odd[l], weight, high);
                }
            }
            for (int l = 0; l < L; ++l) {
                _mm512_storeu_ps(target + l * dim_, even[l]);
                _mm512_storeu_ps(target + l * dim_ + 16, odd[l]);
            }
        }
        if (first == 0)
            for (int64_t key = round_up(chunk.keys, 2); key < next.keys; ++key)
                next.prefetch(cache_.values, key, dim_);
    }

    // Sixteen of 32 numbers in their true order, from two quarters of each half.
    static __m512 in_order(__m512 even, int first, __m512 odd) {
        const __m512i places = _mm512_add_epi32(
            _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23),
            _mm512_set1_epi32(first));
        return _mm512_permutex2var_ps(even, places, odd);
    }

    const AttentionLayer& layer_;
    const PagedLayer& cache_;
    const int64_t dim_, lanes_;
    AttentionScratch& scratch_;
    const bf16* queries_[kMost];
    int64_t positions_[kMost];
    __m512 totals_[kMost];  // the sum of each is a lane's total
};

}  // namespace llmserve
