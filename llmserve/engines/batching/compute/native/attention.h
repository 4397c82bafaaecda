// Causal attention of query rows over the paged cache, softmax on the way (Milakov and Gimelshein,
// "Online normalizer calculation for softmax", 2018).
//
// Queries that read the same KV head fill tiles of 16 lanes, token after token, the heads of a
// token side by side: one lane for each query head at decode, all 16 at prefill. Scores lie
// transposed, a row for each key, so that maximum, exponential and sum run down the lanes:
//
//   scores (keys, lanes) = keys × queries' → weights, in pairs of keys → sums += weights' × values
#pragma once

#include <algorithm>
#include <cmath>

#include "attention_task.h"
#include "lanes.h"
#include "product.h"
#include "rows.h"
#include "tiles.h"

namespace llmserve {

// Stands in for minus infinity, which must not meet itself in a subtraction.
inline constexpr float kUnseen = -1e30f;

class Attention {
  public:
    Attention(const AttentionLayer& layer, const AttentionRow& row, const AttentionTask& task,
              AttentionScratch& scratch)
        : layer_(layer), row_(row), task_(task), scratch_(scratch), cache_(layer.cache),
          dim_(cache_.head_dim), group_(layer.query_heads / cache_.kv_heads),
          tiles_((task.num_lanes + kLanes - 1) / kLanes),
          in_place_(cache_.block_size % 16 == 0 && dim_ % 32 == 0) {}

    // Reads all keys; what the next task reads first is called for on the way.
    void sweep(const AttentionRow* next_row, const AttentionTask* next_task) {
        for (int64_t tile = 0; tile < tiles_; ++tile) load_queries(tile);
        Chunk *chunk = &scratch_.chunks[0], *next = &scratch_.chunks[1];
        chunk->locate(cache_, row_, task_, task_.begin);
        for (; chunk->keys > 0; std::swap(chunk, next)) {
            const int64_t begin = chunk->first + kChunk;
            const bool last = begin >= task_.end;
            next->keys = 0;
            if (!last)
                next->locate(cache_, row_, task_, begin);
            else if (next_task != nullptr)
                next->locate(cache_, *next_row, *next_task, next_task->begin);
            take(*chunk, *next);
            if (last) break;
        }
    }

    // What a sweep over a part of the keys has found.
    void save(float* part) const {
        const int64_t lanes = kTaskTiles * kLanes;
        std::memcpy(part, scratch_.maximum, lanes * sizeof(float));
        std::memcpy(part + lanes, scratch_.total, lanes * sizeof(float));
        std::memcpy(part + 2 * lanes, scratch_.sums.data(),
                    task_.num_lanes * dim_ * sizeof(float));
    }

    // As if one sweep had read the keys of all parts.
    void merge(const float* parts, int64_t count) {
        const int64_t lanes = kTaskTiles * kLanes, size = partial_size(dim_);
        for (int64_t lane = 0; lane < task_.num_lanes; ++lane) {
            float maximum = kUnseen, total = 0.0f;
            for (int64_t i = 0; i < count; ++i)
                maximum = std::max(maximum, parts[i * size + lane]);
            float* sums = scratch_.sums.data() + lane * dim_;
            std::memset(sums, 0, dim_ * sizeof(float));
            for (int64_t i = 0; i < count; ++i) {
                const float* part = parts + i * size;
                const float weight = std::exp((part[lane] - maximum) * layer_.scale);
                total += weight * part[lanes + lane];
                add_row(sums, part + 2 * lanes + lane * dim_, weight, dim_);
            }
            scratch_.total[lane] = total;
        }
    }

    // Divides by the totals and writes the rows.
    void finish() const {
        for (int64_t lane = 0; lane < task_.num_lanes; ++lane) {
            const __m512 factor = _mm512_set1_ps(1.0f / scratch_.total[lane]);
            const float* sum = scratch_.sums.data() + lane * dim_;
            for (int64_t i = 0; i < dim_; i += kLanes)
                store_bf16(
                    layer_.out + tile_place(token(lane), head(lane) * dim_ + i, layer_.out_depth),
                    _mm512_mul_ps(_mm512_loadu_ps(sum + i), factor));
        }
    }

  private:
    int64_t token(int64_t lane) const {
        return row_.first_token + (task_.first_lane + lane) / group_;
    }
    int64_t head(int64_t lane) const {
        return task_.kv_head * group_ + (task_.first_lane + lane) % group_;
    }
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
            sources[i] = layer_.queries + (token(lane) * layer_.query_heads + head(lane)) * dim_;
            scratch_.position[tile * kLanes + i] = static_cast<int32_t>(
                row_.first_position + (task_.first_lane + lane) / group_);
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

    void take(const Chunk& chunk, const Chunk& next) {
        // Each block is on a page of its own: their addresses are looked up side by side.
        for (int64_t key = 0; key < next.keys; key += 16) {
            call_line_near(cache_.keys + next.offsets[key]);
            call_line_near(cache_.values + next.offsets[key]);
        }
        const bf16* key_rows[kChunk / 16];
        locate_keys(chunk, key_rows);
        pack_values(chunk, next);
        bool seen[kTaskTiles];
        for (int64_t tile = 0; tile < tiles_; ++tile)
            if ((seen[tile] = is_seen(tile, chunk)))
                layer_.tiles ? score_tiles(tile, chunk.keys, key_rows)
                             : score_dots(tile, chunk.keys, key_rows);
        bool calls = true;
        for (int64_t tile = 0; tile < tiles_; ++tile)
            if (seen[tile]) {
                soften(tile, chunk, next, calls);
                calls = false;
            }
        for (int64_t tile = 0; tile < tiles_; ++tile)
            if (seen[tile]) layer_.tiles ? mix_tiles(tile, chunk.keys) : mix_dots(tile, chunk.keys);
    }

    bool is_seen(int64_t tile, const Chunk& chunk) const {
        const int32_t* position = scratch_.position + tile * kLanes;
        if (chunk.first > position[kLanes - 1]) return false;
        return layer_.window == 0 || chunk.first + chunk.keys > position[0] - layer_.window + 1;
    }

    // Blocks lie anywhere, which the processor's own prefetcher cannot follow. Lines are called for
    // a few at a time between other work, as all at once would block it.
    void call(const bf16* rows, const Chunk& next, int64_t key) const {
        if (key >= next.keys) return;
        const bf16* row = rows + next.offsets[key];
        for (int64_t i = 0; i < dim_; i += 32) call_line_near(row + i);
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

    // Pairs of keys interleaved; what lies behind the last key is zero, whatever the block holds.
    void pack_values(const Chunk& chunk, const Chunk& next) {
        const int64_t columns = dim_ / 16, end = round_up(chunk.keys, 32);
        for (int64_t key = 0; key < end; key += 2) {
            call(cache_.keys, next, key);
            call(cache_.keys, next, key + 1);
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
        for (int64_t key = end; key < next.keys; ++key) call(cache_.keys, next, key);
    }

    static __m512i widen(__mmask16 lanes, const bf16* source) {
        return _mm512_maskz_cvtepu16_epi32(
            lanes, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
    }

    void score_tiles(int64_t tile, int64_t keys, const bf16* const* key_rows) {
        const bf16* queries = scratch_.queries.data() + tile * scratch_.padded * kLanes;
        float* scores = scratch_.scores.data() + tile * kChunk * kLanes;
        const int64_t bytes = key_stride() * 2, groups = (keys + 15) / 16;
        settle_stores();
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

    void score_dots(int64_t tile, int64_t keys, const bf16* const* key_rows) {
        const bf16* queries = scratch_.queries.data() + tile * scratch_.padded * kLanes;
        float* scores = scratch_.scores.data() + tile * kChunk * kLanes;
        const int64_t stride = key_stride();
        for (int64_t key = 0; key < keys; key += 8) {
            const bf16* rows = key_rows[key / 16] + key % 16 * stride;
            __m512 sums[8];
            for (auto& sum : sums) sum = _mm512_setzero_ps();
            for (int64_t pair = 0; pair < dim_ / 2; ++pair) {
                const __m512bh query = load_pairs(queries + pair * 32);
                for (int i = 0; i < 8; ++i)
                    sums[i] = _mm512_dpbf16_ps(sums[i], query,
                                               broadcast_pair(rows + i * stride + pair * 2));
            }
            for (int i = 0; i < 8; ++i) _mm512_storeu_ps(scores + (key + i) * kLanes, sums[i]);
        }
    }

    // Hides what a lane must not see, and finds the chunk's maxima.
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

    // Scores become weights, in pairs of keys; running maximum, total and sums follow.
    void soften(int64_t tile, const Chunk& chunk, const Chunk& next, bool calls) {
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
        // Far above the unseen: a lane that has seen no key yet gets weights of zero, not one.
        const __m512 base = _mm512_mul_ps(scale, _mm512_max_ps(after, _mm512_set1_ps(kUnseen / 8)));
        const __m512 correction = exp2_lanes(_mm512_fmsub_ps(before, scale, base));
        __m512 sum = _mm512_mul_ps(_mm512_load_ps(scratch_.total + tile * kLanes), correction);
        const __m512i interleave = _mm512_load_si512(kInterleave);
        const int64_t end = round_up(chunk.keys, 32);
        for (int64_t key = 0; key < end; key += 2) {
            if (calls) {
                call(cache_.values, next, key);
                call(cache_.values, next, key + 1);
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
        if (calls)
            for (int64_t key = end; key < next.keys; ++key) call(cache_.values, next, key);
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
        // Where pairs of keys ran down, they run along the lanes: a left side of a product.
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
        settle_stores();
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
        const int64_t columns = dim_ / 16, num_pairs = (keys + 1) / 2;
        const bf16* pairs = scratch_.pairs.data() + tile * kChunk * kLanes;
        for (int64_t lane = 0; lane < lanes(tile); ++lane)
            for (int64_t column = 0; column < columns; column += 4) {
                const int64_t width = std::min<int64_t>(4, columns - column);
                float* target = scratch_.sums.data() + (tile * kLanes + lane) * dim_ + column * 16;
                __m512 sum[4];
                for (int64_t i = 0; i < 4; ++i)
                    sum[i] = i < width ? _mm512_loadu_ps(target + i * 16) : _mm512_setzero_ps();
                for (int64_t pair = 0; pair < num_pairs; ++pair) {
                    const __m512bh weight = broadcast_pair(pairs + pair * 32 + lane * 2);
                    const bf16* values = scratch_.values.data() +
                                         ((pair / 16 * columns + column) * 16 + pair % 16) * 32;
                    for (int64_t i = 0; i < width; ++i)
                        sum[i] = _mm512_dpbf16_ps(sum[i], weight, load_pairs(values + i * 512));
                }
                for (int64_t i = 0; i < width; ++i) _mm512_storeu_ps(target + i * 16, sum[i]);
            }
    }

    // Two halves of a line, number by number in turn.
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
