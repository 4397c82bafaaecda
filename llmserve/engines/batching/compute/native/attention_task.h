// What attention works on: the layout of the cache, the rows of a batch, and tasks on them.
#pragma once

#include <algorithm>

#include "lanes.h"

namespace llmserve {

inline constexpr int64_t kChunk = 32;     // keys between two corrections of the running maximum
inline constexpr int64_t kTaskTiles = 4;  // of 16 lanes

// Instead of minus infinity, which minus itself is not a number.
inline constexpr float kUnseen = -1e30f;

// A layer's keys and values: (num_blocks, kv_heads, block_size, head_dim) each.
struct PagedLayer {
    const bf16* keys;
    const bf16* values;
    int64_t kv_heads, block_size, head_dim;
};

// A row of the batch.
struct AttentionRow {
    int64_t first_token;     // in the batch
    int64_t first_position;  // of that token in its sequence
    const int32_t* table;
};

// One KV head of one row of the batch, and a range of its queries.
struct AttentionTask {
    int32_t row, kv_head;
    int32_t first_lane, num_lanes;  // of the row's tokens × group lanes
    int32_t begin, end;             // keys to look at; `begin` is a multiple of kChunk
    int32_t oldest;                 // position of the first query
    int32_t part;                   // number of the partial result that this makes; -1: none

    // Of a lane: its token, counted from the row's first, and its query head.
    int64_t token(int64_t lane, int64_t group) const { return (first_lane + lane) / group; }
    int64_t head(int64_t lane, int64_t group) const {
        return kv_head * group + (first_lane + lane) % group;
    }

    // Without the keys that no query sees; none may be left.
    AttentionTask within(int64_t window) const {
        AttentionTask task = *this;
        if (window > 0)
            task.begin = std::max<int32_t>(
                begin, std::max<int64_t>(0, oldest - window + 1) / kChunk * kChunk);
        return task;
    }
};

// One task whose keys are divided into parts, for different threads.
struct SplitTask {
    int32_t first, count;  // of the tasks
};

// What a part leaves: maxima and totals of 64 lanes, then their sums (64, head_dim).
inline int64_t partial_size(int64_t head_dim) { return kTaskTiles * kLanes * (head_dim + 2); }

// What all tasks of a layer have in common.
struct AttentionLayer {
    PagedLayer cache;
    const bf16* queries;  // (num_tokens, query_heads, head_dim)
    bf16* out;            // heads side by side
    int64_t out_depth;    // in tiles, as the left side of a product so deep; 0: as the queries
    int64_t query_heads;
    float scale;
    int64_t window;  // a token sees itself and the window - 1 before it; 0: all
    bool tiles;
};

}  // namespace llmserve
