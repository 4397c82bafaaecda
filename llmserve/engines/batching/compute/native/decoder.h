// A decoder like Llama's; one call computes one step of a batch.
//
// Five rounds a layer, each shared by all threads, with a barrier between them:
//
//   norm, q/k/v → head norms, rotation, cache │ attention │ out + residual │
//   norm, gate/up → silu × up │ down + residual
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "attention_plan.h"
#include "attention_round.h"
#include "buffer.h"
#include "cut.h"
#include "failure.h"
#include "low_rank.h"
#include "product.h"
#include "rows.h"
#include "team.h"

namespace llmserve {

// The structures up to `Step` are filled by Python; the fields are those in kernels.py.

struct Shape {
    int64_t hidden, intermediate, layers, query_heads, kv_heads, head_dim, vocab;
    float norm_epsilon, score_scale, embedding_scale, residual_scale, logit_scale;
    int32_t tiles;
    const bf16* embedding;  // (vocab, hidden), or null: read from `head`
    const bf16* head;       // packed
    const float* final_norm;
};

// Pointers to biases and head norms are null where the model has none.
struct Layer {
    const bf16 *qkv, *out, *gate_up, *down;  // packed; gate and up alternate by panel
    const float *qkv_bias, *out_bias, *gate_up_bias, *down_bias;
    const float *attention_norm, *mlp_norm, *query_norm, *key_norm;
    int64_t window;  // 0: none
    int64_t rotates;
};

struct Step {
    int64_t num_tokens, num_rows, num_sampled, max_blocks;
    int64_t num_positions, num_blocks, block_size, threads;
    const int64_t *token_ids, *positions, *slots, *sampled;
    const int32_t *query_starts, *context_lengths, *block_tables;
    const float *cosines, *sines;  // (num_positions, head_dim / 2)
    bf16* const* keys;             // of each layer
    bf16* const* values;
    float* logits;  // (num_sampled, vocab)
    int64_t num_segments;
    const Segment* segments;  // rows with adapters, in order

    BatchRows rows() const {
        return {num_tokens,   num_rows,        max_blocks,  num_blocks, block_size,
                query_starts, context_lengths, block_tables};
    }
};

class Decoder {
  public:
    Decoder(const Shape& shape, const Layer* layers)
        : shape_(shape), layers_(layers, layers + shape.layers),
          query_size_(shape.query_heads * shape.head_dim),
          hidden_depth_(packed_depth(shape.hidden)), query_depth_(packed_depth(query_size_)),
          gate_depth_(packed_depth(shape.intermediate)) {
        const int64_t head = shape.head_dim / kLanes, queries = shape.query_heads * head;
        const int64_t keys = queries + shape.kv_heads * head;
        heads_ = {kQuery, 3, {queries, keys, keys + shape.kv_heads * head}, false};
        out_ = {kOut, 1, {}, true};
        gates_ = {kGate, 2, {}, true};
        down_ = {kDown, 1, {}, true};
    }

    // Indices come from outside: all are checked before any is used.
    Failure check(const Step& step) const;
    void step(const Step& step);

  private:
    // What each thread has for itself.
    struct Workspace {
        explicit Workspace(const Shape& shape) : attention(shape.head_dim) {}
        Buffer<float> product;
        Buffer<bf16> rows;  // its own copy of the normed rows, if there are few
        AttentionScratch attention;
    };

    // What adapters may add to a product: to those of a group of sites, in a layer.
    struct Adds {
        int64_t layer;
        const SiteGroup* group;  // null: nothing
    };

    void prepare(const Step& step);
    void run(const Step& step, Member& member);
    void embed(const Step& step, Member& member);
    const bf16* norm(const float* weight, int64_t rows, const int64_t* chosen, Member& member,
                     Workspace& workspace);
    void project_heads(const Step& step, const Layer& layer, int64_t index, Member& member,
                       Workspace& workspace);
    void finish_head(const Step& step, const Layer& layer, int64_t index, int64_t head,
                     int64_t token, float* row);
    void attend(const Step& step, const Layer& layer, int64_t index, Member& member,
                Workspace& workspace);
    void add_product(const Adds& adds, const bf16* rows, int64_t depth, const bf16* weight,
                     const float* bias, Member& member, Workspace& workspace);
    void gate(const Layer& layer, int64_t index, Member& member, Workspace& workspace);
    void predict(const Step& step, Member& member, Workspace& workspace);
    Cut heads_cut() const;
    Cut out_cut(const Member& member) const;
    Cut gate_cut(const Member& member) const;
    Cut vocab_cut(const Step& step, const Member& member) const;
    void prefetch_first(const bf16* weight, const Cut& cut, int64_t depth,
                        const Member& member) const;
    template <class Finish>
    void product(const Cut& cut, const Adds& adds, const bf16* rows, const bf16* weight,
                 int64_t depth, Member& member, Workspace& workspace, Finish finish);

    const Shape shape_;
    const std::vector<Layer> layers_;
    const int64_t query_size_, hidden_depth_, query_depth_, gate_depth_;
    std::unique_ptr<Team> team_;
    std::vector<std::unique_ptr<Workspace>> workspaces_;
    Buffer<float> hidden_;    // (tokens, hidden), the residual stream
    Buffer<bf16> queries_;    // (tokens, query_size)
    // Left sides of products: in tiles, their rows padded to packed depths.
    Buffer<bf16> normed_;     // (tokens, hidden)
    Buffer<bf16> attended_;   // (tokens, query_size)
    Buffer<bf16> gated_;      // (tokens, intermediate)
    SiteGroup heads_, out_, gates_, down_;
    LowRankSums low_rank_;
    AttentionPlan plan_;
    Buffer<float> partials_;
    int64_t num_tokens_ = 0;
};

}  // namespace llmserve
