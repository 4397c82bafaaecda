// The attention of one layer, shared by the threads of a step.
#pragma once

#include "attention.h"
#include "attention_plan.h"
#include "team.h"

namespace llmserve {

// `partials` has room for the plan's parts. Returns without a barrier.
inline void attention_round(const AttentionPlan& plan, const AttentionLayer& layer, float* partials,
                            Member& member, AttentionScratch& scratch) {
    const int64_t num_tasks = static_cast<int64_t>(plan.tasks().size());
    const auto partial = [&](int64_t part) {
        return partials + part * partial_size(layer.cache.head_dim);
    };
    member.share(num_tasks, [&](int64_t number) {
        const AttentionTask task = plan.tasks()[number].within(layer.window);
        const bool last = number + 1 == num_tasks;
        const AttentionTask next = plan.tasks()[last ? number : number + 1].within(layer.window);
        Attention attention(layer, plan.rows()[task.row], task, scratch);
        attention.sweep(&plan.rows()[next.row], last ? nullptr : &next);
        if (task.part < 0)
            attention.finish();
        else
            attention.save(partial(task.part));
    });
    if (plan.splits().empty()) return;
    member.wait();
    member.share(static_cast<int64_t>(plan.splits().size()), [&](int64_t number) {
        const SplitTask split = plan.splits()[number];
        const AttentionTask& task = plan.tasks()[split.first];
        Attention attention(layer, plan.rows()[task.row], task, scratch);
        attention.merge(partial(task.part), split.count);
        attention.finish();
    });
}

}  // namespace llmserve
