// Attention of many query lanes over the paged cache, as at prefill: queries fill tiles of 16
// lanes, token after token, the heads of a token side by side. Scores are transposed, a row for
// each key, so that maximum, exponential and sum are computed for 16 lanes at once:
//
//   scores (keys, lanes) = keys × queries' → weights, in pairs of keys → sums += weights' × values
#pragma once

#include <algorithm>

#include "attention_chunk.h"
#include "attention_scratch.h"
#include "attention_task.h"
#include "lanes.h"
#include "tiles.h"

namespace llmserve {

class ManyLanes {
  public:
    ManyLanes(const AttentionLayer& layer, const AttentionRow& row, const AttentionTask& task,
              AttentionScratch& scratch)
        : layer_(layer), row_(row), task_(task), scratch_(scratch), cache_(layer.cache),
          dim_(cache_.head_dim), group_(layer.query_heads / cache_.kv_heads),
          tiles_((task.num_lanes + kLanes - 1) / kLanes),
          in_place_(cache_.block_size % 16 == 0 && dim_ % 32 == 0) {
        for (int64_t tile = 0; tile < tiles_; ++tile) load_queries(tile);
    }

    void take(const Chunk& chunk, const Chunk& next) {
        const bf16* key_rows[kChunk / 16];
        locate_keys(chunk, key_rows);
        pack_values(chunk, next);
        bool seen[kTaskTiles];
        for (int64_t tile = 0; tile < tiles_; ++tile) seen[tile] = is_seen(tile, chunk);
        for (int64_t tile = 0; tile < tiles_; ++tile) {
            if (!seen[tile]) continue;
#if LLMSERVE_TILES
            if (layer_.tiles) {
                score_tiles(tile, chunk.keys, key_rows);
                continue;
            }
#endif
            if (kRegisters >= 32 && tile + 1 < tiles_ && seen[tile + 1])
                score_dots<2>(tile++, chunk.keys, key_rows);
            else
                score_dots<1>(tile, chunk.keys, key_rows);
        }
        bool prefetches = true;
        for (int64_t tile = 0; tile < tiles_; ++tile)
            if (seen[tile]) {
                softmax(tile, chunk, next, prefetches);
                prefetches = false;
            }
        for (int64_t tile = 0; tile < tiles_; ++tile)
            if (seen[tile]) mix(tile, chunk.keys);
    }

    // Maxima, totals and sums are up to date after every chunk.
    void finish() {}

  private:
    int64_t lanes(int64_t tile) const {
        return std::min<int64_t>(kLanes, task_.num_lanes - tile * kLanes);
    }
    int64_t key_stride() const { return in_place_ ? dim_ : scratch_.padded; }

    void load_queries(int64_t tile) {
        bf16* target = scratch_.queries.data() + tile * scratch_.padded * kLanes;
        const int64_t used = lanes(tile);
        const bf16* sources[kLanes];
        for (int64_t i = 0; i < kLanes; ++i) {
            const int64_t lane = tile * kLanes + std::min(i, used - 1);
            const int64_t token = task_.token(lane, group_), head = task_.head(lane, group_);
            sources[i] =
                layer_.queries + ((row_.first_token + token) * layer_.query_heads + head) * dim_;
            scratch_.position[tile * kLanes + i] =
                static_cast<int32_t>(row_.first_position + token);
            scratch_.maximum[tile * kLanes + i] = kUnseen;
            scratch_.total[tile * kLanes + i] = 0.0f;
        }
        for (int64_t k = 0; k < scratch_.padded; k += 32) {
            Line rows[16];
            for (int64_t i = 0; i < kLanes; ++i)
                rows[i] = i < used ? load_line_first(sources[i] + k, dim_ - k)
                                   : zero_line();
            transpose(rows);
            for (int64_t i = 0; i < 16; ++i)
                store_line(target + k * kLanes + i * 32, rows[i]);
        }
        std::memset(scratch_.sums.data() + tile * kLanes * dim_, 0, used * dim_ * sizeof(float));
    }

    bool is_seen(int64_t tile, const Chunk& chunk) const {
        const int32_t* position = scratch_.position + tile * kLanes;
        if (chunk.first > position[kLanes - 1]) return false;
        return layer_.window == 0 || chunk.first + chunk.keys > position[0] - layer_.window + 1;
    }

    // A pointer to every 16 keys, `key_stride` apart.
    void locate_keys(const Chunk& chunk, const bf16** key_rows) {
        for (int64_t i = 0; i < chunk.keys; i += 16) {
            if (in_place_) {
                key_rows[i / 16] = cache_.keys + chunk.offsets[i];
                continue;
            }
            bf16* copy = scratch_.keys.data() + i * scratch_.padded;
            std::memset(copy, 0, 16 * scratch_.padded * sizeof(bf16));
            for (int64_t j = i; j < std::min(i + 16, chunk.keys); ++j)
                std::memcpy(copy + (j - i) * scratch_.padded, cache_.keys + chunk.offsets[j],
                            dim_ * sizeof(bf16));
            key_rows[i / 16] = copy;
        }
    }

    // Interleaves pairs of keys; what comes after the last key is zero, whatever the block holds.
    void pack_values(const Chunk& chunk, const Chunk& next) {
        const int64_t columns = dim_ / 16, end = round_up(chunk.keys, 32);
        for (int64_t key = 0; key < end; key += 2) {
            next.prefetch(cache_.keys, key, dim_);
            next.prefetch(cache_.keys, key + 1, dim_);
            bf16* target = scratch_.values.data() + (key / 32 * columns * 16 + key % 32 / 2) * 32;
            const bf16* low = cache_.values + chunk.offsets[std::min(key, chunk.keys - 1)];
            const bf16* high = cache_.values + chunk.offsets[std::min(key + 1, chunk.keys - 1)];
            const bool has_low = key < chunk.keys, has_high = key + 1 < chunk.keys;
            for (int64_t column = 0; column < columns; ++column)
                store_line(target + column * 512,
                           zip_rows(has_low ? low + column * 16 : nullptr,
                                    has_high ? high + column * 16 : nullptr));
        }
        for (int64_t key = end; key < next.keys; ++key) next.prefetch(cache_.keys, key, dim_);
    }

#if LLMSERVE_TILES
    void score_tiles(int64_t tile, int64_t keys, const bf16* const* key_rows) {
        const bf16* queries = scratch_.queries.data() + tile * scratch_.padded * kLanes;
        float* scores = scratch_.scores.data() + tile * kChunk * kLanes;
        const int64_t bytes = key_stride() * 2, groups = (keys + 15) / 16;
        compiler_barrier();
        for (int64_t i = 0; i < groups; i += 2) {
            const bool both = i + 1 < groups;
            _tile_zero(0);
            _tile_zero(1);
            for (int64_t k = 0; k < scratch_.padded; k += 32) {
                _tile_loadd(6, queries + k * kLanes, 64);
                _tile_loadd(4, key_rows[i] + k, bytes);
                _tile_dpbf16ps(0, 4, 6);
                if (both) {
                    _tile_loadd(5, key_rows[i + 1] + k, bytes);
                    _tile_dpbf16ps(1, 5, 6);
                }
            }
            _tile_stored(0, scores + i * 256, 64);
            if (both) _tile_stored(1, scores + i * 256 + 256, 64);
        }
    }
#endif

    // Keys and columns whose sums stay in the registers.
    static constexpr int kKeys = kRegisters >= 32 ? 8 : 4;
    static constexpr int kColumns = kRegisters >= 32 ? 4 : 1;

    // Scores of kKeys keys and T tiles at a time.
    template <int T>
    void score_dots(int64_t tile, int64_t keys, const bf16* const* key_rows) {
        const bf16* queries = scratch_.queries.data() + tile * scratch_.padded * kLanes;
        float* scores = scratch_.scores.data() + tile * kChunk * kLanes;
        const int64_t stride = key_stride(), tile_stride = scratch_.padded * kLanes;
        for (int64_t key = 0; key < keys; key += kKeys) {
            const bf16* rows = key_rows[key / 16] + key % 16 * stride;
            Floats sums[T][kKeys];
            for (auto& rest : sums)
                for (auto& sum : rest) sum = zeros();
            for (int64_t pair = 0; pair < dim_ / 2; ++pair) {
                Pairs query[T];
                for (int t = 0; t < T; ++t)
                    query[t] = load_pairs(queries + t * tile_stride + pair * 32);
                for (int i = 0; i < kKeys; ++i) {
                    const Pairs numbers = broadcast_pair(rows + i * stride + pair * 2);
                    for (int t = 0; t < T; ++t)
                        sums[t][i] = dot(sums[t][i], query[t], numbers);
                }
            }
            for (int t = 0; t < T; ++t)
                for (int i = 0; i < kKeys; ++i)
                    store_lanes(scores + (t * kChunk + key + i) * kLanes, sums[t][i]);
        }
    }

    // Masks what a lane must not see, and returns the chunk's maxima.
    Floats mask(int64_t tile, const Chunk& chunk, float* scores) const {
        const Floats unseen = broadcast(kUnseen);
        const int32_t* newest = scratch_.position + tile * kLanes;
        alignas(64) int32_t oldest[kLanes] = {};
        if (layer_.window > 0)
            for (int64_t i = 0; i < kLanes; ++i)
                oldest[i] = newest[i] - static_cast<int32_t>(layer_.window - 1);
        Floats maximum = unseen;
        for (int64_t key = 0; key < round_up(chunk.keys, 32); ++key) {
            const int32_t at = static_cast<int32_t>(chunk.first + key);
            const Mask seen = key < chunk.keys ? within(at, oldest, newest) : Mask{0};
            const Floats score = choose(seen, load_lanes(scores + key * kLanes), unseen);
            store_lanes(scores + key * kLanes, score);
            maximum = larger(maximum, score);
        }
        return maximum;
    }

    // Turns scores into weights, in pairs of keys, and updates running maximum, total and sums.
    void softmax(int64_t tile, const Chunk& chunk, const Chunk& next, bool prefetches) {
        float* scores = scratch_.scores.data() + tile * kChunk * kLanes;
        bf16* pairs = scratch_.pairs.data() + tile * kChunk * kLanes;
        const int32_t* position = scratch_.position + tile * kLanes;
        Floats maximum = broadcast(kUnseen);
        if (chunk.keys % 32 != 0 || chunk.first + chunk.keys - 1 > position[0] ||
            (layer_.window > 0 && chunk.first <= position[kLanes - 1] - layer_.window))
            maximum = mask(tile, chunk, scores);
        else
            for (int64_t key = 0; key < chunk.keys; ++key)
                maximum = larger(maximum, load_lanes(scores + key * kLanes));
        const Floats scale = broadcast(layer_.scale * 1.44269504f);
        const Floats before = load_lanes(scratch_.maximum + tile * kLanes);
        const Floats after = larger(before, maximum);
        store_lanes(scratch_.maximum + tile * kLanes, after);
        // Far above kUnseen: a lane that has seen no key yet gets weights of zero, not one.
        const Floats base = scale * larger(after, broadcast(kUnseen / 8));
        const Floats correction = exp2_lanes(fmsub(before, scale, base));
        Floats sum = load_lanes(scratch_.total + tile * kLanes) * correction;
        const int64_t end = round_up(chunk.keys, 32);
        for (int64_t key = 0; key < end; key += 2) {
            if (prefetches) {
                next.prefetch(cache_.values, key, dim_);
                next.prefetch(cache_.values, key + 1, dim_);
            }
            const Floats low = exp2_lanes(
                fmsub(load_lanes(scores + key * kLanes), scale, base));
            const Floats high = exp2_lanes(
                fmsub(load_lanes(scores + (key + 1) * kLanes), scale, base));
            sum = sum + low + high;
            store_zipped(pairs + key * kLanes, low, high);
        }
        if (prefetches)
            for (int64_t key = end; key < next.keys; ++key) next.prefetch(cache_.values, key, dim_);
        store_lanes(scratch_.total + tile * kLanes, sum);
        if (equal(correction, broadcast(1.0f)) != kAllLanes) rescale(tile, correction);
    }

    void rescale(int64_t tile, Floats correction) {
        alignas(64) float factors[kLanes];
        store_lanes(factors, correction);
        float* sums = scratch_.sums.data() + tile * kLanes * dim_;
        for (int64_t lane = 0; lane < lanes(tile); ++lane) {
            const Floats factor = broadcast(factors[lane]);
            for (int64_t i = lane * dim_; i < (lane + 1) * dim_; i += kLanes)
                store_lanes(sums + i, load_lanes(sums + i) * factor);
        }
    }

    void mix(int64_t tile, int64_t keys) {
#if LLMSERVE_TILES
        if (layer_.tiles) return mix_tiles(tile, keys);
#endif
        mix_dots(tile, keys);
    }

#if LLMSERVE_TILES
    void mix_tiles(int64_t tile, int64_t keys) {
        const int64_t halves = (keys + 31) / 32, columns = dim_ / 16;
        // Transposed, so that they are the left side of a product: a row for each lane.
        bf16* weights = scratch_.pairs.data() + tile * kChunk * kLanes;
        for (int64_t half = 0; half < halves; ++half) {
            Line rows[16];
            for (int64_t i = 0; i < 16; ++i)
                rows[i] = load_line(weights + (half * 16 + i) * 32);
            transpose(rows);
            for (int64_t i = 0; i < 16; ++i)
                store_line(weights + (half * 16 + i) * 32, rows[i]);
        }
        float* sums = scratch_.sums.data() + tile * kLanes * dim_;
        const int64_t bytes = dim_ * 4;
        compiler_barrier();
        for (int64_t column = 0; column < columns; column += 2) {
            const bool both = column + 1 < columns;
            _tile_loadd(0, sums + column * 16, bytes);
            if (both) _tile_loadd(1, sums + column * 16 + 16, bytes);
            for (int64_t half = 0; half < halves; ++half) {
                const bf16* values = scratch_.values.data() + (half * columns + column) * 512;
                _tile_loadd(4, weights + half * 512, 64);
                _tile_loadd(6, values, 64);
                _tile_dpbf16ps(0, 4, 6);
                if (both) {
                    _tile_loadd(7, values + 512, 64);
                    _tile_dpbf16ps(1, 4, 7);
                }
            }
            _tile_stored(0, sums + column * 16, bytes);
            if (both) _tile_stored(1, sums + column * 16 + 16, bytes);
        }
    }
#endif

    void mix_dots(int64_t tile, int64_t keys) {
        for (int64_t lane = 0; lane < lanes(tile); lane += 4)
            for (int64_t column = 0; column < dim_ / 16; column += kColumns)
                if (dim_ / 16 - column >= kColumns)
                    mix_block<kColumns>(tile, lane, column, (keys + 1) / 2);
                else
                    for (int64_t i = column; i < dim_ / 16; ++i)
                        mix_block<1>(tile, lane, i, (keys + 1) / 2);
    }

    // Of four lanes, the last of which may be unused, and C columns of 16.
    template <int C>
    void mix_block(int64_t tile, int64_t lane, int64_t column, int64_t num_pairs) {
        const bf16* pairs = scratch_.pairs.data() + tile * kChunk * kLanes;
        float* target = scratch_.sums.data() + (tile * kLanes + lane) * dim_ + column * 16;
        Floats sums[4][C];
        for (int i = 0; i < 4; ++i)
            for (int c = 0; c < C; ++c) sums[i][c] = load_lanes(target + i * dim_ + c * 16);
        for (int64_t pair = 0; pair < num_pairs; ++pair) {
            const bf16* values = scratch_.values.data() +
                                 ((pair / 16 * (dim_ / 16) + column) * 16 + pair % 16) * 32;
            Pairs numbers[C];
            for (int c = 0; c < C; ++c) numbers[c] = load_pairs(values + c * 512);
            for (int i = 0; i < 4; ++i) {
                const Pairs weight = broadcast_pair(pairs + pair * 32 + (lane + i) * 2);
                for (int c = 0; c < C; ++c)
                    sums[i][c] = dot(sums[i][c], weight, numbers[c]);
            }
        }
        for (int i = 0; i < 4; ++i)
            for (int c = 0; c < C; ++c) store_lanes(target + i * dim_ + c * 16, sums[i][c]);
    }

    const AttentionLayer& layer_;
    const AttentionRow& row_;
    const AttentionTask& task_;
    AttentionScratch& scratch_;
    const PagedLayer& cache_;
    const int64_t dim_, group_, tiles_;
    const bool in_place_;
};

}  // namespace llmserve
