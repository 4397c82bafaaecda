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
        return task.num_lanes <= (layer.tiles ? 4 : kMost) &&
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
            totals_[lane] = zeros();
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
            scratch_.total[lane] = reduce_add(totals_[lane]);
            float* sums = scratch_.sums.data() + lane * dim_;
            for (int64_t i = 0; i < dim_; i += 32) {
                const Floats even = load_lanes(sums + i), odd = load_lanes(sums + i + 16);
                store_lanes(sums + i, in_order(even, odd, 0));
                store_lanes(sums + i + 16, in_order(even, odd, 8));
            }
        }
    }

  private:
    static constexpr int64_t kMost = 8;
    static constexpr int kTogether = kRegisters >= 32 ? 4 : 1;  // whose sums fit into the registers

    // Calls with the number of lanes from `first` on, at most `kTogether`, as a constant.
    template <class Run>
    void with_lanes(int64_t first, Run run) const {
        const int64_t lanes = std::min<int64_t>(lanes_ - first, kTogether);
        if constexpr (kTogether > 1) {
            if (lanes == 2) return run(std::integral_constant<int, 2>());
            if (lanes == 3) return run(std::integral_constant<int, 3>());
            if (lanes == 4) return run(std::integral_constant<int, 4>());
        }
        run(std::integral_constant<int, 1>());
    }

    float* scores(int64_t lane) const { return scratch_.scores.data() + lane * kChunk; }
    bf16* weights(int64_t lane) const { return scratch_.pairs.data() + lane * kChunk; }

    template <int L>
    void score(int64_t first, const Chunk& chunk, const Chunk& next) const {
        for (int64_t key = 0; key < chunk.keys; key += 16) {
            const bf16* rows = cache_.keys + chunk.offsets[key];
            Floats quarters[L][4];
            for (int quarter = 0; quarter < 4; ++quarter, rows += 4 * dim_) {
                if (first == 0)
                    for (int i = 0; i < 4; ++i)
                        next.prefetch(cache_.keys, key + quarter * 4 + i, dim_);
                Floats sums[L][4];
                for (auto& lane : sums)
                    for (auto& sum : lane) sum = zeros();
                for (int64_t k = 0; k < dim_; k += 32)
                    for (int i = 0; i < 4; ++i) {
                        const Pairs numbers = load_pairs(rows + i * dim_ + k);
                        for (int l = 0; l < L; ++l)
                            sums[l][i] = dot(sums[l][i], numbers,
                                                          load_pairs(queries_[first + l] + k));
                    }
                for (int l = 0; l < L; ++l) quarters[l][quarter] = add_up_within(sums[l]);
            }
            for (int l = 0; l < L; ++l)
                store_lanes(scores(first + l) + key, add_up_across(quarters[l]));
        }
        // The next chunk may have more keys than this one.
        if (first == 0)
            for (int64_t key = round_up(chunk.keys, 16); key < next.keys; ++key)
                next.prefetch(cache_.keys, key, dim_);
    }

    // Turns scores into weights, and updates running maximum, total and sums.
    void softmax(int64_t lane, const Chunk& chunk) {
        Floats low = load_lanes(scores(lane)), high = load_lanes(scores(lane) + 16);
        const int64_t newest = positions_[lane];
        const int64_t oldest = layer_.window > 0 ? newest - layer_.window + 1 : 0;
        if (chunk.keys < kChunk || chunk.first + kChunk - 1 > newest || chunk.first < oldest) {
            const Floats unseen = broadcast(kUnseen);
            low = choose(hidden(chunk, 0, oldest, newest), unseen, low);
            high = choose(hidden(chunk, 16, oldest, newest), unseen, high);
        }
        const float before = scratch_.maximum[lane];
        const float after = std::max(before, reduce_max(larger(low, high)));
        const Floats scale = broadcast(layer_.scale * 1.44269504f);
        // Far above kUnseen: a lane that has seen no key yet gets weights of zero, not one.
        const Floats base = scale * broadcast(std::max(after, kUnseen / 8));
        if (after > before) {
            const Floats factor = exp2_lanes(fmsub(broadcast(before), scale, base));
            totals_[lane] = totals_[lane] * factor;
            float* sums = scratch_.sums.data() + lane * dim_;
            for (int64_t i = 0; i < dim_; i += kLanes)
                store_lanes(sums + i, load_lanes(sums + i) * factor);
            scratch_.maximum[lane] = after;
        }
        low = exp2_lanes(fmsub(low, scale, base));
        high = exp2_lanes(fmsub(high, scale, base));
        totals_[lane] = totals_[lane] + low + high;
        store_bf16(weights(lane), low);
        store_bf16(weights(lane) + kLanes, high);
    }

    // Those of 16 keys of a chunk that a lane must not see.
    static Mask hidden(const Chunk& chunk, int64_t key, int64_t oldest, int64_t newest) {
        const int64_t begin = std::clamp<int64_t>(oldest - chunk.first - key, 0, 16);
        const int64_t until = std::min(chunk.keys, newest + 1 - chunk.first) - key;
        const int64_t end = std::clamp<int64_t>(until, begin, 16);
        return static_cast<Mask>(~((1u << end) - (1u << begin)));
    }

    template <int L>
    void mix(int64_t first, const Chunk& chunk, const Chunk& next) const {
        float* target = scratch_.sums.data() + first * dim_;
        for (int64_t i = 0; i < dim_; i += 32, target += 32) {
            Floats even[L], odd[L];
            for (int l = 0; l < L; ++l) {
                even[l] = load_lanes(target + l * dim_);
                odd[l] = load_lanes(target + l * dim_ + 16);
            }
            for (int64_t key = 0; key < chunk.keys; key += 2) {
                if (first == 0 && i == 0) {
                    next.prefetch(cache_.values, key, dim_);
                    next.prefetch(cache_.values, key + 1, dim_);
                }
                // An odd last key is paired with itself, with a weight of zero: behind it the block
                // may hold anything.
                const int64_t second = std::min(key + 1, chunk.keys - 1);
                const ZippedQuarters values = zip_quarters(cache_.values + chunk.offsets[key] + i,
                                                           cache_.values + chunk.offsets[second] + i);
                for (int l = 0; l < L; ++l) {
                    const Pairs weight = broadcast_pair(weights(first + l) + key);
                    even[l] = dot(even[l], weight, values.first);
                    odd[l] = dot(odd[l], weight, values.second);
                }
            }
            for (int l = 0; l < L; ++l) {
                store_lanes(target + l * dim_, even[l]);
                store_lanes(target + l * dim_ + 16, odd[l]);
            }
        }
        if (first == 0)
            for (int64_t key = round_up(chunk.keys, 2); key < next.keys; ++key)
                next.prefetch(cache_.values, key, dim_);
    }

    const AttentionLayer& layer_;
    const PagedLayer& cache_;
    const int64_t dim_, lanes_;
    AttentionScratch& scratch_;
    const bf16* queries_[kMost];
    int64_t positions_[kMost];
    Floats totals_[kMost];  // the sum of each is a lane's total
};

}  // namespace llmserve
