// Attention of a batch over a layer's paged cache, for models whose other parts run in torch.
#pragma once

#include <omp.h>

#include <memory>
#include <vector>

#include "attention_round.h"
#include "failure.h"

namespace llmserve {

// Filled by Python; the fields are those in kernels.py.
struct AttentionCall {
    BatchRows rows;
    int64_t query_heads, kv_heads, head_dim, window, threads;
    const bf16 *queries, *keys, *values;
    bf16* out;  // as the queries: (num_tokens, query_heads, head_dim)
    float scale;
    int32_t tiles;
};

// Memory shared by the layers of one model, which run one after another.
class AttentionWorkspace {
  public:
    Failure run(const AttentionCall& call) {
        if (!call.rows.have_good_lengths()) return Failure::rows;
        if (!call.rows.have_good_blocks()) return Failure::blocks;
        const int threads = static_cast<int>(call.threads);
        prepare(call, threads);
        const AttentionLayer layer{
            {call.keys, call.values, call.kv_heads, call.rows.block_size, call.head_dim},
            call.queries, call.out, 0, call.query_heads, call.scale, call.window, call.tiles != 0};
#pragma omp parallel num_threads(threads)
        {
            const FlushTiny flush;
            const TileScope tiles(layer.tiles);
            Member member(*team_, omp_get_thread_num(), omp_get_num_threads());
            attention_round(plan_, layer, partials_.data(), member, *scratches_[member.index()]);
        }
        return Failure::none;
    }

  private:
    // All memory is allocated here: no thread may throw in the parallel region.
    void prepare(const AttentionCall& call, int threads) {
        if (!team_ || team_->max_members() < threads) team_ = std::make_unique<Team>(threads);
        // A model's layers may have heads of different sizes.
        if (head_dim_ != call.head_dim) scratches_.clear();
        head_dim_ = call.head_dim;
        while (static_cast<int>(scratches_.size()) < threads)
            scratches_.push_back(std::make_unique<AttentionScratch>(head_dim_));
        plan_.lay_out(call.rows, call.query_heads / call.kv_heads, call.kv_heads, threads);
        partials_.reserve(plan_.num_parts() * partial_size(head_dim_));
    }

    std::unique_ptr<Team> team_;
    std::vector<std::unique_ptr<AttentionScratch>> scratches_;
    int64_t head_dim_ = 0;
    AttentionPlan plan_;
    Buffer<float> partials_;
};

}  // namespace llmserve
