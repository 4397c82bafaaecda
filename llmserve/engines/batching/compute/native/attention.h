// Causal attention of query rows over the paged cache, with the softmax computed on the way
// (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018).
//
// The queries that read the same KV head are the lanes of a task: one for each query head at
// decode, many at prefill. With few lanes a tile of 16 would be mostly empty, so there are two ways
// to read the keys: attention_few.h and attention_many.h.
#pragma once

#include <algorithm>
#include <cmath>

#include "attention_few.h"
#include "attention_many.h"
#include "product.h"
#include "rows.h"

namespace llmserve {

class Attention {
  public:
    Attention(const AttentionLayer& layer, const AttentionRow& row, const AttentionTask& task,
              AttentionScratch& scratch)
        : layer_(layer), row_(row), task_(task), scratch_(scratch), dim_(layer.cache.head_dim),
          group_(layer.query_heads / layer.cache.kv_heads) {}

    // Reads all keys; what the next task reads first is prefetched on the way.
    void sweep(const AttentionRow* next_row, const AttentionTask* next_task) {
        if (FewLanes::suits(layer_, task_))
            read<FewLanes>(next_row, next_task);
        else
            read<ManyLanes>(next_row, next_task);
    }

    // Stores what a sweep over a part of the keys has computed.
    void save(float* part) const {
        const int64_t lanes = kTaskTiles * kLanes;
        std::memcpy(part, scratch_.maximum, lanes * sizeof(float));
        std::memcpy(part + lanes, scratch_.total, lanes * sizeof(float));
        std::memcpy(part + 2 * lanes, scratch_.sums.data(),
                    task_.num_lanes * dim_ * sizeof(float));
    }

    // Combines the parts as if one sweep had read all their keys.
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
            const Floats factor = broadcast(1.0f / scratch_.total[lane]);
            const float* sum = scratch_.sums.data() + lane * dim_;
            const int64_t token = row_.first_token + task_.token(lane, group_);
            const int64_t column = task_.head(lane, group_) * dim_;
            for (int64_t i = 0; i < dim_; i += kLanes)
                store_bf16(place(token, column + i),
                           load_lanes(sum + i) * factor);
        }
    }

  private:
    template <class Lanes>
    void read(const AttentionRow* next_row, const AttentionTask* next_task) {
        Lanes lanes(layer_, row_, task_, scratch_);
        each_chunk(layer_.cache, row_, task_, next_row, next_task,
                   [&](const Chunk& chunk, const Chunk& next) { lanes.take(chunk, next); });
        lanes.finish();
    }

    bf16* place(int64_t token, int64_t column) const {
        return layer_.out + (layer_.out_depth > 0
                                 ? tile_place(token, column, layer_.out_depth)
                                 : token * layer_.query_heads * dim_ + column);
    }

    const AttentionLayer& layer_;
    const AttentionRow& row_;
    const AttentionTask& task_;
    AttentionScratch& scratch_;
    const int64_t dim_, group_;
};

}  // namespace llmserve
