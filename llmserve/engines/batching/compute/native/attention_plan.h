// How the attention of one step is divided into tasks, the same for all layers.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "attention_task.h"

namespace llmserve {

// Keys in a part of a task: fewer are not worth another barrier.
inline constexpr int64_t kPartKeys = 256;

// The rows of a batch: where their tokens begin, and where their keys are.
struct BatchRows {
    int64_t num_tokens, num_rows, max_blocks, num_blocks, block_size;
    const int32_t *query_starts, *context_lengths, *block_tables;

    bool have_good_lengths() const {
        if (query_starts[0] != 0 || query_starts[num_rows] != num_tokens) return false;
        for (int64_t row = 0; row < num_rows; ++row) {
            const int64_t length = query_starts[row + 1] - query_starts[row];
            const int64_t context = context_lengths[row];
            if (length < 1 || length > context || context > max_blocks * block_size) return false;
        }
        return true;
    }
    bool have_good_blocks() const {
        return std::all_of(block_tables, block_tables + num_rows * max_blocks,
                           [this](int32_t block) { return block >= 0 && block < num_blocks; });
    }
};

class AttentionPlan {
  public:
    const std::vector<AttentionRow>& rows() const { return rows_; }
    const std::vector<AttentionTask>& tasks() const { return tasks_; }
    const std::vector<SplitTask>& splits() const { return splits_; }
    int64_t num_parts() const { return num_parts_; }

    // The tables must outlive the plan.
    void lay_out(const BatchRows& rows, int64_t group, int64_t kv_heads, int64_t threads) {
        rows_.clear();
        tasks_.clear();
        for (int32_t row = 0; row < rows.num_rows; ++row) {
            const int64_t first = rows.query_starts[row];
            const int64_t length = rows.query_starts[row + 1] - first;
            const int64_t before = rows.context_lengths[row] - length;
            rows_.push_back({first, before, rows.block_tables + row * rows.max_blocks});
            for (int32_t head = 0; head < kv_heads; ++head)
                for (int64_t lane = 0; lane < length * group; lane += kTaskTiles * kLanes) {
                    const int64_t lanes = std::min(kTaskTiles * kLanes, length * group - lane);
                    const int64_t end = before + (lane + lanes - 1) / group + 1;
                    tasks_.push_back({row, head, static_cast<int32_t>(lane),
                                      static_cast<int32_t>(lanes), 0, static_cast<int32_t>(end),
                                      static_cast<int32_t>(before + lane / group), -1});
                }
        }
        split(threads);
    }

  private:
    // A few long rows do not keep all threads busy: then their keys are divided, too.
    void split(int64_t threads) {
        splits_.clear();
        num_parts_ = 0;
        const int64_t num_tasks = static_cast<int64_t>(tasks_.size());
        if (threads == 1 || num_tasks >= 2 * threads) return;
        const std::vector<AttentionTask> whole = std::exchange(tasks_, {});
        for (const AttentionTask& task : whole) {
            const int64_t parts = std::min((4 * threads - 1) / num_tasks + 1, task.end / kPartKeys);
            if (parts <= 1) {
                tasks_.push_back(task);
                continue;
            }
            splits_.push_back({static_cast<int32_t>(tasks_.size()), 0});
            const int64_t length = round_up((task.end + parts - 1) / parts, kChunk);
            for (int64_t begin = 0; begin < task.end; begin += length) {
                AttentionTask part = task;
                part.begin = static_cast<int32_t>(begin);
                part.end = static_cast<int32_t>(std::min<int64_t>(task.end, begin + length));
                part.part = num_parts_++;
                tasks_.push_back(part);
                ++splits_.back().count;
            }
        }
    }

    std::vector<AttentionRow> rows_;
    std::vector<AttentionTask> tasks_;
    std::vector<SplitTask> splits_;
    int32_t num_parts_ = 0;
};

}  // namespace llmserve
