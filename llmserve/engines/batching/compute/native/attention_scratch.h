// The memory that one thread needs for attention.
#pragma once

#include "attention_task.h"
#include "buffer.h"
#include "lanes.h"

namespace llmserve {

// For tasks of up to kTaskTiles × kLanes lanes, one after another.
struct AttentionScratch {
    explicit AttentionScratch(int64_t head_dim)
        : padded(round_up(head_dim, 32)),
          queries(kTaskTiles * padded * kLanes),
          keys(kChunk * padded),
          values(kChunk * head_dim),
          sums(kTaskTiles * kLanes * head_dim),
          scores(kTaskTiles * kChunk * kLanes),
          pairs(kTaskTiles * kChunk * kLanes) {}

    const int64_t padded;  // head_dim up to a multiple of 32
    Buffer<bf16> queries;  // (tiles, padded / 2, 16 lanes) pairs
    Buffer<bf16> keys;     // (keys, padded), where the cache cannot be read in place
    Buffer<bf16> values;   // (head_dim / 16, 16 pairs of keys, 16 columns) pairs
    Buffer<float> sums;    // (tiles, 16 lanes, head_dim)
    Buffer<float> scores;  // (tiles, keys, 16 lanes); of few lanes (lanes, keys)
    Buffer<bf16> pairs;    // (tiles, pairs of keys, 16 lanes) pairs; of few lanes (lanes, keys)
    alignas(64) float maximum[kTaskTiles * kLanes];  // of the raw scores
    alignas(64) float total[kTaskTiles * kLanes];
    alignas(64) int32_t position[kTaskTiles * kLanes];
};

}  // namespace llmserve
