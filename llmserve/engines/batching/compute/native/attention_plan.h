// How the attention of one step is cut into tasks, alike for all layers.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "attention_task.h"

namespace llmserve {

// Keys in a part of a task: fewer are not worth another wait.
inline constexpr int64_t kPartKeys = 256;

class AttentionPlan {
  public:
    const std::vector<AttentionRow>& rows() const { return rows_; }
    const std::vector<AttentionTask>& tasks() const { return tasks_; }
    const std::vector<SplitTask>& splits() const { return splits_; }
    int64_t num_parts() const { return num_parts_; }

    // The tables are those of `Step`; they must outlive the plan's use.
    void lay_out(const int32_t* query_starts, const int32_t* context_lengths,
                 const int32_t* block_tables, int64_t num_rows, int64_t max_blocks, int64_t group,
                 int64_t kv_heads, int64_t threads) {
        rows_.clear();
        tasks_.clear();
        for (int32_t row = 0; row < num_rows; ++row) {
            const int64_t first = query_starts[row], length = query_starts[row + 1] - first;
            const int64_t before = context_lengths[row] - length;
            rows_.push_back({first, before, block_tables + row * max_blocks});
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
    // A few long rows do not keep all threads busy: then their keys are shared out, too.
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
