#include "decoder.h"

#include <omp.h>

namespace llmserve {

namespace {

// Up to this many numbers every thread norms all rows itself, which is cheaper than a barrier.
constexpr int64_t kNormAlone = 16384;
// Up to this many rows a product is bound by memory, not by arithmetic.
constexpr int64_t kFewRows = 64;
// Weights that are prefetched before a barrier: about what arrives while threads wait.
constexpr int64_t kFirstNumbers = 8192;

}  // namespace

Failure Decoder::check(const Step& step) const {
    const auto inside = [](const auto* indices, int64_t count, int64_t size) {
        return std::all_of(indices, indices + count,
                           [&](int64_t index) { return index >= 0 && index < size; });
    };
    if (!inside(step.token_ids, step.num_tokens, shape_.vocab)) return Failure::tokens;
    if (!inside(step.positions, step.num_tokens, step.num_positions)) return Failure::positions;
    if (!inside(step.slots, step.num_tokens, step.num_blocks * step.block_size))
        return Failure::slots;
    if (!step.rows().have_good_lengths()) return Failure::rows;
    if (!step.rows().have_good_blocks()) return Failure::blocks;
    if (!inside(step.sampled, step.num_sampled, step.num_tokens)) return Failure::samples;
    for (int64_t i = 0, end = 0; i < step.num_segments; end = step.segments[i++].stop)
        if (step.segments[i].start < end || step.segments[i].stop < step.segments[i].start ||
            step.segments[i].stop > step.num_tokens)
            return Failure::segments;
    return Failure::none;
}

void Decoder::step(const Step& step) {
    prepare(step);
#pragma omp parallel num_threads(static_cast<int>(step.threads))
    {
        const FlushTiny flush;
        const TileScope tiles(shape_.tiles != 0);
        Member member(*team_, omp_get_thread_num(), omp_get_num_threads());
        run(step, member);
    }
}

// All memory is allocated here: no thread may throw in the parallel region.
void Decoder::prepare(const Step& step) {
    const int threads = static_cast<int>(step.threads);
    if (!team_ || team_->max_members() < threads) team_ = std::make_unique<Team>(threads);
    while (static_cast<int>(workspaces_.size()) < threads)
        workspaces_.push_back(std::make_unique<Workspace>(shape_));
    num_tokens_ = step.num_tokens;
    // Tiles read and write 16 rows at a time.
    const int64_t padded = round_up(std::max(step.num_tokens, step.num_sampled), 16);
    hidden_.reserve(padded * shape_.hidden);
    normed_.reserve(padded * hidden_depth_);
    queries_.reserve(padded * query_size_);
    attended_.reserve(padded * query_depth_);
    gated_.reserve(padded * gate_depth_);
    const int64_t widest = std::max<int64_t>(shape_.head_dim, 16 * kLanes);
    for (auto& workspace : workspaces_) {
        workspace->product.reserve(std::min(padded, kRowPart) * widest);
        workspace->rows.reserve(std::max<int64_t>(16, round_up(kNormAlone / shape_.hidden, 16)) *
                           hidden_depth_);
    }
    low_rank_.prepare(step.segments, step.num_segments, shape_.layers, padded);
    plan_.lay_out(step.rows(), shape_.query_heads / shape_.kv_heads, shape_.kv_heads, threads);
    partials_.reserve(plan_.num_parts() * partial_size(shape_.head_dim));
}

void Decoder::run(const Step& step, Member& member) {
    Workspace& workspace = *workspaces_[member.index()];
    embed(step, member);
    for (int64_t index = 0; index < shape_.layers; ++index) {
        const Layer& layer = layers_[index];
        const bool last = index + 1 == shape_.layers;
        project_heads(step, layer, index, member, workspace);
        member.wait();
        attend(step, layer, index, member, workspace);
        prefetch_first(layer.out, out_cut(member), query_depth_, member);
        member.wait();
        add_product({index, &out_}, attended_.data(), query_depth_, layer.out, layer.out_bias, member, workspace);
        prefetch_first(layer.gate_up, gate_cut(member), hidden_depth_, member);
        member.wait();
        gate(layer, index, member, workspace);
        prefetch_first(layer.down, out_cut(member), gate_depth_, member);
        member.wait();
        add_product({index, &down_}, gated_.data(), gate_depth_, layer.down, layer.down_bias, member, workspace);
        if (last)
            prefetch_first(shape_.head, vocab_cut(step, member), hidden_depth_, member);
        else
            prefetch_first(layers_[index + 1].qkv, heads_cut(), hidden_depth_, member);
        member.wait();
    }
    predict(step, member, workspace);
}

void Decoder::embed(const Step& step, Member& member) {
    const Floats scale = broadcast(shape_.embedding_scale);
    const int64_t panel = packed_depth(shape_.hidden) * kLanes;
    member.share(num_tokens_, [&](int64_t token) {
        const int64_t id = step.token_ids[token];
        float* target = hidden_.data() + token * shape_.hidden;
        for (int64_t i = 0; i < shape_.hidden; i += kLanes) {
            Floats x;
            if (shape_.embedding != nullptr) {
                x = load_bf16(shape_.embedding + id * shape_.hidden + i);
            } else {
                // Tied weights are stored once, packed: a row is one word of every line of its
                // panel.
                alignas(64) bf16 row[16];
                const bf16* words = shape_.head + id / 16 * panel + id % 16 * 2 + i * kLanes;
                for (int64_t pair = 0; pair < 8; ++pair)
                    std::memcpy(row + pair * 2, words + pair * 32, 4);
                x = load_bf16(row);
            }
            store_lanes(target + i, x * scale);
        }
    });
    member.wait();
}

// Norms all rows, or the chosen ones, into the left side of a product.
const bf16* Decoder::norm(const float* weight, int64_t rows, const int64_t* chosen, Member& member,
                          Workspace& workspace) {
    const auto norm_row = [&](int64_t row, bf16* target) {
        const int64_t source = chosen == nullptr ? row : chosen[row];
        normalize(hidden_.data() + source * shape_.hidden, weight, shape_.hidden,
                  shape_.norm_epsilon, row, target);
    };
    if (rows * shape_.hidden <= kNormAlone) {
        for (int64_t row = 0; row < rows; ++row) norm_row(row, workspace.rows.data());
        return workspace.rows.data();
    }
    member.share(rows, [&](int64_t row) { norm_row(row, normed_.data()); });
    member.wait();
    return normed_.data();
}

// One head each.
Cut Decoder::heads_cut() const {
    const int64_t panels = shape_.head_dim / kLanes;
    const int64_t heads = shape_.query_heads + 2 * shape_.kv_heads;
    return {num_tokens_, std::min(num_tokens_, kRowPart), heads * panels, panels};
}

Cut Decoder::out_cut(const Member& member) const {
    return Cut::evenly(num_tokens_, shape_.hidden / kLanes, 2, member.size());
}

Cut Decoder::gate_cut(const Member& member) const {
    return Cut::evenly(num_tokens_, 2 * shape_.intermediate / kLanes, 2, member.size());
}

Cut Decoder::vocab_cut(const Step& step, const Member& member) const {
    return Cut::evenly(step.num_sampled, (shape_.vocab + kLanes - 1) / kLanes, 2, member.size());
}

// Weights do not depend on the other threads: what this one multiplies first after the next barrier
// is prefetched before it, so that memory is never idle. Not worth it if arithmetic is the limit.
void Decoder::prefetch_first(const bf16* weight, const Cut& cut, int64_t depth,
                             const Member& member) const {
    if (cut.rows > kFewRows || cut.tasks() == 0) return;
    const int64_t panel = member.first(cut.tasks()) / cut.row_parts() * cut.panel_part;
    const bf16* begin = weight + panel * depth * kLanes;
    const int64_t numbers = std::min(cut.panel_part * depth * kLanes, kFirstNumbers);
    for (int64_t i = 0; i < numbers; i += 32) prefetch_line_near(begin + i);
    keep_prefetches();
}

template <class Finish>
void Decoder::product(const Cut& cut, const Adds& adds, const bf16* rows, const bf16* weight,
                      int64_t depth, Member& member, Workspace& workspace, Finish finish) {
    const bool is_more = adds.group != nullptr && low_rank_.adds(adds.layer, *adds.group);
    if (is_more) {
        low_rank_.shrink(adds.layer, *adds.group, rows, depth, member);
        member.wait();
    }
    member.share(cut.tasks(), [&](int64_t task) {
        cut.with_task(task, [&](int64_t row, int64_t num_rows, int64_t panel, int64_t panels) {
            const int64_t width = panels * kLanes;
            float* result = workspace.product.data();
            multiply(shape_.tiles != 0, rows + row * depth, num_rows,
                     weight + panel * depth * kLanes, panels, depth, result, width);
            if (is_more)
                low_rank_.expand(adds.layer, *adds.group, row, num_rows, panel, panels, result);
            for (int64_t i = 0; i < num_rows; ++i)
                finish(row + i, panel * kLanes, width, result + i * width);
        });
    });
}

void Decoder::project_heads(const Step& step, const Layer& layer, int64_t index, Member& member,
                            Workspace& workspace) {
    const bf16* rows = norm(layer.attention_norm, num_tokens_, nullptr, member, workspace);
    const int64_t dim = shape_.head_dim;
    product(heads_cut(), {index, &heads_}, rows, layer.qkv, hidden_depth_, member, workspace,
            [&](int64_t token, int64_t column, int64_t, float* row) {
                finish_head(step, layer, index, column / dim, token, row);
            });
}

// One head of one token: into the queries, or into its slot of the cache.
void Decoder::finish_head(const Step& step, const Layer& layer, int64_t index, int64_t head,
                          int64_t token, float* row) {
    const int64_t dim = shape_.head_dim, key_head = head - shape_.query_heads;
    if (layer.qkv_bias != nullptr) add_bias(row, layer.qkv_bias + head * dim, dim);
    if (key_head < shape_.kv_heads) {
        const float* weight = key_head < 0 ? layer.query_norm : layer.key_norm;
        if (weight != nullptr) normalize_head(row, weight, dim, shape_.norm_epsilon);
        const int64_t angle = step.positions[token] * (dim / 2);
        if (layer.rotates) rotate_head(row, step.cosines + angle, step.sines + angle, dim);
    }
    if (key_head < 0) {
        round_row(row, dim, queries_.data() + (token * shape_.query_heads + head) * dim);
        return;
    }
    bf16* store = key_head < shape_.kv_heads ? step.keys[index] : step.values[index];
    const int64_t slot = step.slots[token];
    const int64_t block = slot / step.block_size, inside = slot % step.block_size;
    const int64_t block_head = block * shape_.kv_heads + key_head % shape_.kv_heads;
    round_row(row, dim, store + (block_head * step.block_size + inside) * dim);
}

void Decoder::attend(const Step& step, const Layer& layer, int64_t index, Member& member,
                     Workspace& workspace) {
    const AttentionLayer common{
        {step.keys[index], step.values[index], shape_.kv_heads, step.block_size, shape_.head_dim},
        queries_.data(), attended_.data(), query_depth_, shape_.query_heads,
        shape_.score_scale, layer.window, shape_.tiles != 0};
    attention_round(plan_, common, partials_.data(), member, workspace.attention);
}

// hidden += rows × weight + bias
void Decoder::add_product(const Adds& adds, const bf16* rows, int64_t depth, const bf16* weight,
                          const float* bias, Member& member, Workspace& workspace) {
    product(out_cut(member), adds, rows, weight, depth, member, workspace,
            [&](int64_t token, int64_t column, int64_t width, float* row) {
                if (bias != nullptr) add_bias(row, bias + column, width);
                add_row(hidden_.data() + token * shape_.hidden + column, row,
                        shape_.residual_scale, width);
            });
}

void Decoder::gate(const Layer& layer, int64_t index, Member& member, Workspace& workspace) {
    const bf16* rows = norm(layer.mlp_norm, num_tokens_, nullptr, member, workspace);
    product(gate_cut(member), {index, &gates_}, rows, layer.gate_up, hidden_depth_, member, workspace,
            [&](int64_t token, int64_t column, int64_t width, float* row) {
                if (layer.gate_up_bias != nullptr)
                    add_bias(row, layer.gate_up_bias + column, width);
                for (int64_t i = 0; i < width; i += 2 * kLanes) {
                    const Floats gate = silu_lanes(load_lanes(row + i));
                    store_bf16(gated_.data() + tile_place(token, (column + i) / 2, gate_depth_),
                               gate * load_lanes(row + i + kLanes));
                }
            });
}

void Decoder::predict(const Step& step, Member& member, Workspace& workspace) {
    if (step.num_sampled == 0) return;
    const bf16* rows = norm(shape_.final_norm, step.num_sampled, step.sampled, member, workspace);
    const Floats scale = broadcast(shape_.logit_scale);
    product(vocab_cut(step, member), {0, nullptr}, rows, shape_.head, hidden_depth_, member, workspace,
            [&](int64_t row, int64_t column, int64_t width, const float* values) {
                float* target = step.logits + row * shape_.vocab + column;
                const int64_t count = std::min(width, shape_.vocab - column);
                for (int64_t i = 0; i < count; i += kLanes)
                    store_some(target + i, first_lanes(count - i),
                               load_lanes(values + i) * scale);
            });
}

}  // namespace llmserve
