// Keys in chunks: where they are in the cache, and how one chunk is read after another.
#pragma once

#include <algorithm>
#include <utility>

#include "attention_task.h"
#include "lanes.h"

namespace llmserve {

// Some keys of a task, and where each is in the cache.
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

    // Blocks are anywhere in memory, which the processor's own prefetcher cannot follow. Lines are
    // prefetched a few at a time between other work, which all at once would stall.
    [[gnu::always_inline]] void prefetch(const bf16* rows, int64_t key, int64_t dim) const {
        if (key >= keys) return;
        const bf16* row = rows + offsets[key];
        for (int64_t i = 0; i < dim; i += 32) prefetch_line_near(row + i);
    }

    // Each block may be on a page of its own: this translates their addresses ahead of time.
    [[gnu::always_inline]] void prefetch_pages(const PagedLayer& cache) const {
        for (int64_t key = 0; key < keys; key += 16) {
            prefetch_line_near(cache.keys + offsets[key]);
            prefetch_line_near(cache.values + offsets[key]);
        }
    }
};

// Reads all keys of a task: `take` gets each chunk together with the one after it, which at the end
// is the next task's first, and may be empty.
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
        next->prefetch_pages(cache);
        take(*chunk, *next);
        if (last) return;
        std::swap(chunk, next);
    }
}

}  // namespace llmserve
