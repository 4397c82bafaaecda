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
            if (layer_.tiles)
                score_tiles(tile, chunk.keys, key_rows);
            else if (tile + 1 < tiles_ && seen[tile + 1])
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
            if (seen[tile]) layer_.tiles ? mix_tiles(tile, chunk.keys) : mix_dots(tile, chunk.keys);
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
            const __mmask32 mask = dim_ - k >= 32 ? 0xffffffffu : (1u << (dim_ - k)) - 1;
            __m512i rows[16];
            for (int64_t i = 0; i < kLanes; ++i)
                rows[i] = i < used ? _mm512_maskz_loadu_epi16(mask, sources[i] + k)
                                   : _mm512_setzero_si512();
            transpose(rows);
            for (int64_t i = 0; i < 16; ++i)
                _mm512_storeu_si512(target + k * kLanes + i * 32, rows[i]);
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
            const __mmask16 has_low = key < chunk.keys ? 0xffff : 0;
            const __mmask16 has_high = key + 1 < chunk.keys ? 0xffff : 0;
            for (int64_t column = 0; column < columns; ++column) {
                const __m512i pair = _mm512_or_si512(
                    widen(has_low, low + column * 16),
                    _mm512_slli_epi32(widen(has_high, high + column * 16), 16));
                _mm512_storeu_si512(target + column * 512, pair);
            }
        }
        for (int64_t key = end; key < next.keys; ++key) next.prefetch(cache_.keys, key, dim_);
    }

    static __m512i widen(__mmask16 lanes, const bf16* source) {
        return _mm512_maskz_cvtepu16_epi32(
            lanes, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
    }

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

    // Scores of 8 keys and T tiles at a time, whose sums stay in registers.
    template <int T>
    void score_dots(int64_t tile, int64_t keys, const bf16* const* key_rows) {
        const bf16* queries = scratch_.queries.data() + tile * scratch_.padded * kLanes;
        float* scores = scratch_.scores.data() + tile * kChunk * kLanes;
        const int64_t stride = key_stride(), tile_stride = scratch_.padded * kLanes;
        for (int64_t key = 0; key < keys; key += 8) {
            const bf16* rows = key_rows[key / 16] + key % 16 * stride;
            __m512 sums[T][8];
            for (auto& rest : sums)
                for (auto& sum : rest) sum = _mm512_setzero_ps();
            for (int64_t pair = 0; pair < dim_ / 2; ++pair) {
                __m512bh query[T];
                for (int t = 0; t < T; ++t)
                    query[t] = load_pairs(queries + t * tile_stride + pair * 32);
                for (int i = 0; i < 8; ++i) {
                    const __m512bh numbers = broadcast_pair(rows + i * stride + pair * 2);
                    for (int t = 0; t < T; ++t)
                        sums[t][i] = _mm512_dpbf16_ps(sums[t][i], query[t], numbers);
                }
            }
            for (int t = 0; t < T; ++t)
                for (int i = 0; i < 8; ++i)
                    _mm512_storeu_ps(scores + (t * kChunk + key + i) * kLanes, sums[t][i]);
        }
    }

    // Masks what a lane must not see, and returns the chunk's maxima.
    __m512 mask(int64_t tile, const Chunk& chunk, float* scores) const {
        const __m512 unseen = _mm512_set1_ps(kUnseen);
        const __m512i newest = _mm512_load_si512(scratch_.position + tile * kLanes);
        __m512i oldest = _mm512_setzero_si512();
        if (layer_.window > 0)
            oldest = _mm512_sub_epi32(newest,
                                      _mm512_set1_epi32(static_cast<int32_t>(layer_.window - 1)));
        __m512 maximum = unseen;
        for (int64_t key = 0; key < round_up(chunk.keys, 32); ++key) {
            const __m512i at = _mm512_set1_epi32(static_cast<int32_t>(chunk.first + key));
            const __mmask16 seen = key < chunk.keys ? _mm512_cmple_epi32_mask(at, newest) &
                                                          _mm512_cmpge_epi32_mask(at, oldest)
                                                    : 0;
            const __m512 score =
                _mm512_mask_blend_ps(seen, unseen, _mm512_loadu_ps(scores + key * kLanes));
            _mm512_storeu_ps(scores + key * kLanes, score);
            maximum = _mm512_max_ps(maximum, score);
        }
        return maximum;
    }

    // Turns scores into weights, in pairs of keys, and updates running maximum, total and sums.
    void softmax(int64_t tile, const Chunk& chunk, const Chunk& next, bool prefetches) {
        float* scores = scratch_.scores.data() + tile * kChunk * kLanes;
        bf16* pairs = scratch_.pairs.data() + tile * kChunk * kLanes;
        const int32_t* position = scratch_.position + tile * kLanes;
        __m512 maximum = _mm512_set1_ps(kUnseen);
        if (chunk.keys % 32 != 0 || chunk.first + chunk.keys - 1 > position[0] ||
            (layer_.window > 0 && chunk.first <= position[kLanes - 1] - layer_.window))
            maximum = mask(tile, chunk, scores);
        else
            for (int64_t key = 0; key < chunk.keys; ++key)
                maximum = _mm512_max_ps(maximum, _mm512_loadu_ps(scores + key * kLanes));
        const __m512 scale = _mm512_set1_ps(layer_.scale * 1.44269504f);
        const __m512 before = _mm512_load_ps(scratch_.maximum + tile * kLanes);
        const __m512 after = _mm512_max_ps(before, maximum);
        _mm512_store_ps(scratch_.maximum + tile * kLanes, after);
        // Far above kUnseen: a lane that has seen no key yet gets weights of zero, not one.
        const __m512 base = _mm512_mul_ps(scale, _mm512_max_ps(after, _mm512_set1_ps(kUnseen / 8)));
        const __m512 correction = exp2_lanes(_mm512_fmsub_ps(before, scale, base));
        __m512 sum = _mm512_mul_ps(_mm512_load_ps(scratch_.total + tile * kLanes), correction);
        const __m512i interleave = _mm512_load_si512(kInterleave);
        const int64_t end = round_up(chunk.keys, 32);
        for (int64_t key = 0; key < end; key += 2) {
            if (prefetches) {
                next.prefetch(cache_.values, key, dim_);
                next.prefetch(cache_.values, key + 1, dim_);
            }
            const __m512 low = exp2_lanes(
                _mm512_fmsub_ps(_mm512_loadu_ps(scores + key * kLanes), scale, base));
            const __m512 high = exp2_lanes(
                _mm512_fmsub_ps(_mm512_loadu_ps(scores + (key + 1) * kLanes), scale, base));
            sum = _mm512_add_ps(sum, _mm512_add_ps(low, high));
            _mm512_storeu_si512(
                pairs + key * kLanes,
                _mm512_permutexvar_epi16(interleave, (__m512i)_mm512_cvtne2ps_pbh(high, low)));
        }
        if (prefetches)
            for (int64_t key = end; key < next.keys; ++key) next.prefetch(cache_.values, key, dim_);
        _mm512_store_ps(scratch_.total + tile * kLanes, sum);
        if (_mm512_cmpneq_ps_mask(correction, _mm512_set1_ps(1.0f))) rescale(tile, correction);
    }

    void rescale(int64_t tile, __m512 correction) {
        alignas(64) float factors[kLanes];
        _mm512_store_ps(factors, correction);
        float* sums = scratch_.sums.data() + tile * kLanes * dim_;
        for (int64_t lane = 0; lane < lanes(tile); ++lane) {
            const __m512 factor = _mm512_set1_ps(factors[lane]);
            for (int64_t i = lane * dim_; i < (lane + 1) * dim_; i += kLanes)
                _mm512_storeu_ps(sums + i, _mm512_mul_ps(_mm512_loadu_ps(sums + i), factor));
        }
    }

    void mix_tiles(int64_t tile, int64_t keys) {
        const int64_t halves = (keys + 31) / 32, columns = dim_ / 16;
        // Transposed, so that they are the left side of a product: a row for each lane.
        bf16* weights = scratch_.pairs.data() + tile * kChunk * kLanes;
        for (int64_t half = 0; half < halves; ++half) {
            __m512i rows[16];
            for (int64_t i = 0; i < 16; ++i)
                rows[i] = _mm512_loadu_si512(weights + (half * 16 + i) * 32);
            transpose(rows);
            for (int64_t i = 0; i < 16; ++i)
                _mm512_storeu_si512(weights + (half * 16 + i) * 32, rows[i]);
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

    void mix_dots(int64_t tile, int64_t keys) {
        for (int64_t lane = 0; lane < lanes(tile); lane += 4)
            for (int64_t column = 0; column < dim_ / 16; column += 4)
                if (dim_ / 16 - column >= 4)
                    mix_block<4>(tile, lane, column, (keys + 1) / 2);
                else
                    for (int64_t i = column; i < dim_ / 16; ++i)
                        mix_block<1>(tile, lane, i, (keys + 1) / 2);
    }

    // Of four lanes, the last of which may be unused, and C columns of 16.
    template <int C>
    void mix_block(int64_t tile, int64_t lane, int64_t column, int64_t num_pairs) {
        const bf16* pairs = scratch_.pairs.data() + tile * kChunk * kLanes;
        float* target = scratch_.sums.data() + (tile * kLanes + lane) * dim_ + column * 16;
        __m512 sums[4][C];
        for (int i = 0; i < 4; ++i)
            for (int c = 0; c < C; ++c) sums[i][c] = _mm512_loadu_ps(target + i * dim_ + c * 16);
        for (int64_t pair = 0; pair < num_pairs; ++pair) {
            const bf16* values = scratch_.values.data() +
                                 ((pair / 16 * (dim_ / 16) + column) * 16 + pair % 16) * 32;
            __m512bh numbers[C];
            for (int c = 0; c < C; ++c) numbers[c] = load_pairs(values + c * 512);
            for (int i = 0; i < 4; ++i) {
                const __m512bh weight = broadcast_pair(pairs + pair * 32 + (lane + i) * 2);
                for (int c = 0; c < C; ++c)
                    sums[i][c] = _mm512_dpbf16_ps(sums[i][c], weight, numbers[c]);
            }
        }
        for (int i = 0; i < 4; ++i)
            for (int c = 0; c < C; ++c) _mm512_storeu_ps(target + i * dim_ + c * 16, sums[i][c]);
    }

    // Takes numbers from the two halves of a line in turn.
    alignas(64) static constexpr uint16_t kInterleave[32] = {
        0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

    const AttentionLayer& layer_;
    const AttentionRow& row_;
    const AttentionTask& task_;
    AttentionScratch& scratch_;
    const PagedLayer& cache_;
    const int64_t dim_, group_, tiles_;
    const bool in_place_;
};

}  // namespace llmserve
