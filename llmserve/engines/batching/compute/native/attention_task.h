// What attention works on: the cache's layout, its share of a step, and memory for it.
#pragma once

#include <algorithm>
#include <utility>

#include "buffer.h"
#include "lanes.h"

namespace llmserve {

inline constexpr int64_t kChunk = 32;     // keys between two corrections of the running maximum
inline constexpr int64_t kTaskTiles = 4;  // of 16 lanes

// Stands in for minus infinity, which must not meet itself in a subtraction.
inline constexpr float kUnseen = -1e30f;

// Where a layer's keys and values lie: (num_blocks, kv_heads, block_size, head_dim) each.
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

// One KV head of one row of the batch, and a stretch of its queries.
struct AttentionTask {
    int32_t row, kv_head;
    int32_t first_lane, num_lanes;  // of the row's tokens × group lanes
    int32_t begin, end;             // keys to look at; `begin` is a multiple of kChunk
    int32_t oldest;                 // position of the first query
    int32_t part;                   // number of the partial result that this makes; -1: none

    // Without the keys that no query sees; there may be none left.
    AttentionTask within(int64_t window) const {
        AttentionTask task = *this;
        if (window > 0)
            task.begin = std::max<int32_t>(
                begin, std::max<int64_t>(0, oldest - window + 1) / kChunk * kChunk);
        return task;
    }
};

// One task in several parts of its keys, for different threads.
struct SplitTask {
    int32_t first, count;  // of the tasks
};

// What a part leaves: maxima and totals of 64 lanes, then their sums (64, head_dim).
inline int64_t partial_size(int64_t head_dim) { return kTaskTiles * kLanes * (head_dim + 2); }

// What all tasks of a layer have in common.
struct AttentionLayer {
    PagedLayer cache;
    const bf16* queries;  // (num_tokens, query_heads, head_dim)
    bf16* out;            // heads side by side, in tiles of so deep a product's left side
    int64_t out_depth;    // 0: as the queries
    int64_t query_heads;
    float scale;
    int64_t window;  // a token sees itself and the window - 1 before it; 0: all
    bool tiles;
};

// Some keys of a task, and where each lies in the cache.
struct Chunk {
    int64_t first = 0, keys = 0;
    int64_t offsets[kChunk];

    void locate(const PagedLayer& cache, const AttentionRow& row, const AttentionTask& task,
                int64_t begin) {
        first = begin;
        keys = std::clamp<int64_t>(task.end - begin, 0, kChunk);
        int64_t block = begin / cache.block_size, inside = begin % cache.block_size;
        for (int64_t key = 0; key < keys; ++block, inside = 0) {
            const int64_t head = row.table[block] * cache.kv_heads + task.kv_head;
            const int64_t until = std::min(keys, key + cache.block_size - inside);
            for (; key < until; ++key)
                offsets[key] = (head * cache.block_size + inside++) * cache.head_dim;
        }
    }

    // Blocks lie anywhere, which the processor's own prefetcher cannot follow. Lines are called for
    // a few at a time between other work, as all at once would block it.
    [[gnu::always_inline]] void prefetch(const bf16* rows, int64_t key, int64_t dim) const {
        if (key >= keys) return;
        const bf16* row = rows + offsets[key];
        for (int64_t i = 0; i < dim; i += 32) prefetch_line_near(row + i);
    }

    // Each block is on a page of its own: their addresses are looked up side by side.
    [[gnu::always_inline]] void call_pages(const PagedLayer& cache) const {
        for (int64_t key = 0; key < keys; key += 16) {
            prefetch_line_near(cache.keys + offsets[key]);
            prefetch_line_near(cache.values + offsets[key]);
        }
    }
};

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

// All keys of a task, chunk after chunk: `take` gets each together with the one that comes after
// it, which is the first of the next task at the end, and may be empty.
template <class Take>
void each_chunk(const PagedLayer& cache, const AttentionRow& row, const AttentionTask& task,
                const AttentionRow* next_row, const AttentionTask* next_task, Take take) {
    Chunk chunks[2];
    Chunk *chunk = &chunks[0], *next = &chunks[1];
    chunk->locate(cache, row, task, task.begin);
    while (chunk->keys > 0) {
        const int64_t begin = chunk->first + kChunk;
        const bool last = begin >= task.end;
        next->keys = 0;
        if (!last)
            next->locate(cache, row, task, begin);
        else if (next_task != nullptr)
            next->locate(cache, *next_row, *next_task, next_task->begin);
        next->call_pages(cache);
        take(*chunk, *next);
        if (last) return;
        std::swap(chunk, next);
    }
}

}  // namespace llmserve
