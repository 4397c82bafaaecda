// Compares the kernels with plain loops, as a program of its own: for processors that this machine
// emulates. Prints a line for each check: its name and the largest error.

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "decoder.h"
#include "linear.h"
#include "paged_attention.h"
#include "sampling.h"

using namespace llmserve;

extern "C" {
int64_t llmserve_panel_size(int64_t depth);
void llmserve_pack(const bf16*, int64_t rows, int64_t depth, bf16* panels, int64_t first,
                   int64_t step, int64_t threads);
void* llmserve_linear_workspace_create();
int32_t llmserve_linear(void*, const Linear*, const bf16*, int64_t rows, bf16*, int32_t tiles,
                        int64_t threads);
void* llmserve_attention_workspace_create();
int32_t llmserve_attend(void*, const AttentionCall*);
void* llmserve_decoder_create(const Shape*, const Layer*);
int32_t llmserve_decoder_step(void*, const Step*);
void llmserve_sample(const float*, int64_t rows, int64_t vocab, const SamplingParams*, float*,
                     int64_t threads, int64_t*);
}

namespace {

std::mt19937 source(7);

float uniform(float scale) {
    return scale * (static_cast<float>(source() >> 8) / static_cast<float>(1 << 23) - 1.0f);
}

bf16 truncated(float number) {
    uint32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    return static_cast<bf16>(bits >> 16);
}

float value(bf16 number) {
    const uint32_t bits = static_cast<uint32_t>(number) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

std::vector<bf16> numbers(int64_t count, float scale = 1.0f) {
    std::vector<bf16> made(count);
    for (auto& number : made) number = truncated(uniform(scale));
    return made;
}

std::vector<bf16> packed(const std::vector<bf16>& weight, int64_t rows, int64_t depth) {
    std::vector<bf16> panels((rows + 15) / 16 * llmserve_panel_size(depth));
    llmserve_pack(weight.data(), rows, depth, panels.data(), 0, 1, 1);
    return panels;
}

double linear(int64_t rows, int64_t depth, int64_t columns) {
    const auto weight = numbers(columns * depth), x = numbers(rows * depth);
    const auto panels = packed(weight, columns, depth);
    std::vector<float> bias(columns);
    for (auto& each : bias) each = uniform(1.0f);
    std::vector<bf16> out(rows * columns);
    const Linear layer{depth, columns, panels.data(), bias.data()};
    static void* workspace = llmserve_linear_workspace_create();
    llmserve_linear(workspace, &layer, x.data(), rows, out.data(), 0, 2);
    double worst = 0.0;
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t column = 0; column < columns; ++column) {
            double sum = bias[column], size = 1.0;
            for (int64_t k = 0; k < depth; ++k) {
                const double term =
                    double(value(x[row * depth + k])) * value(weight[column * depth + k]);
                sum += term;
                size = std::max(size, std::fabs(sum));
            }
            worst = std::max(worst, std::fabs(value(out[row * columns + column]) - sum) / size);
        }
    return worst;
}

// One row of the batch with `length` new tokens after `before` others, heads in groups of `group`.
double attention(int64_t length, int64_t before, int64_t group, int64_t dim, int64_t block_size,
                 int64_t window) {
    const int64_t context = before + length, kv_heads = 2, heads = kv_heads * group;
    const int64_t blocks = (context + block_size - 1) / block_size;
    const auto queries = numbers(length * heads * dim);
    const auto keys = numbers(blocks * kv_heads * block_size * dim);
    const auto values = numbers(blocks * kv_heads * block_size * dim);
    std::vector<int32_t> table(blocks);
    for (int64_t i = 0; i < blocks; ++i) table[i] = static_cast<int32_t>(blocks - 1 - i);
    const int32_t starts[] = {0, static_cast<int32_t>(length)};
    const int32_t lengths[] = {static_cast<int32_t>(context)};
    std::vector<bf16> out(length * heads * dim);
    AttentionCall call{};
    call.rows = {length, 1, blocks, blocks, block_size, starts, lengths, table.data()};
    call.query_heads = heads;
    call.kv_heads = kv_heads;
    call.head_dim = dim;
    call.window = window;
    call.threads = 2;
    call.queries = queries.data();
    call.keys = keys.data();
    call.values = values.data();
    call.out = out.data();
    call.scale = 1.0f / std::sqrt(static_cast<float>(dim));
    static void* workspace = llmserve_attention_workspace_create();
    if (llmserve_attend(workspace, &call) != 0) return 1e9;
    double worst = 0.0;
    for (int64_t token = 0; token < length; ++token)
        for (int64_t head = 0; head < heads; ++head) {
            const int64_t newest = before + token;
            const int64_t oldest = window > 0 ? std::max<int64_t>(0, newest - window + 1) : 0;
            std::vector<double> sums(dim);
            double total = 0.0;
            for (int64_t key = oldest; key <= newest; ++key) {
                const int64_t place =
                    ((table[key / block_size] * kv_heads + head / group) * block_size +
                     key % block_size) * dim;
                double score = 0.0;
                for (int64_t k = 0; k < dim; ++k)
                    score += double(value(queries[(token * heads + head) * dim + k])) *
                             value(keys[place + k]);
                const double weight = std::exp(score * call.scale);
                total += weight;
                for (int64_t k = 0; k < dim; ++k) sums[k] += weight * value(values[place + k]);
            }
            for (int64_t k = 0; k < dim; ++k)
                worst = std::max(worst, std::fabs(value(out[(token * heads + head) * dim + k]) -
                                                  sums[k] / total));
        }
    return worst;
}

// How many of the chosen tokens are others than those that plain loops choose.
double sampling(int64_t vocab) {
    double wrong = 0.0;
    for (int turn = 0; turn < 60; ++turn) {
        std::vector<float> logits(vocab), scratch(round_up(vocab, kLanes));
        for (auto& logit : logits) logit = uniform(4.0f);
        SamplingParams params{};
        params.uniform = (turn + 0.5) / 60;
        params.inverse_temperature = turn % 3 == 0 ? 0.0f : 1.25f;
        params.top_p = 1.0f;
        params.top_k = turn % 3 == 2 ? 5 : 0;
        int64_t chosen = -2;
        llmserve_sample(logits.data(), 1, vocab, &params, scratch.data(), 1, &chosen);
        std::vector<float> sorted(logits);
        std::sort(sorted.begin(), sorted.end(), std::greater<float>());
        const float least = params.inverse_temperature == 0.0f ? sorted[0]
                            : params.top_k > 0                 ? sorted[params.top_k - 1]
                                                               : sorted.back();
        double total = 0.0, reached = 0.0;
        for (const float logit : logits)
            if (logit >= least) total += std::exp(logit * params.inverse_temperature);
        bool is_near = false;  // rounding may choose a neighbour
        for (int64_t token = 0; token < vocab; ++token) {
            if (logits[token] < least) continue;
            const double before = reached / total;
            reached += std::exp(logits[token] * params.inverse_temperature);
            if (token == chosen)
                is_near = params.inverse_temperature == 0.0f ||
                          (before - 1e-4 <= params.uniform &&
                           params.uniform <= reached / total + 1e-4);
        }
        wrong += !is_near;
    }
    return wrong;
}

// Prints logits of a small decoder's prompt in two pieces: for comparison with another build's.
void decoder() {
    const int64_t hidden = 64, intermediate = 96, heads = 4, kv_heads = 2, dim = 32, vocab = 40;
    const int64_t length = 21, block_size = 16, blocks = 2;
    const auto qkv = packed(numbers((heads + 2 * kv_heads) * dim * hidden, 0.3f),
                            (heads + 2 * kv_heads) * dim, hidden);
    const auto out = packed(numbers(hidden * heads * dim, 0.3f), hidden, heads * dim);
    const auto gate_up = packed(numbers(2 * intermediate * hidden, 0.3f), 2 * intermediate, hidden);
    const auto down = packed(numbers(hidden * intermediate, 0.3f), hidden, intermediate);
    const auto head = packed(numbers(vocab * hidden), vocab, hidden);
    const std::vector<float> norm(hidden, 1.0f);
    std::vector<float> cosines(length * dim / 2), sines(length * dim / 2);
    for (int64_t i = 0; i < length * dim / 2; ++i) {
        const float angle = static_cast<float>(i / (dim / 2)) / static_cast<float>(i % (dim / 2) + 1);
        cosines[i] = std::cos(angle);
        sines[i] = std::sin(angle);
    }
    const Shape shape{hidden, intermediate, 1, heads, kv_heads, dim, vocab, 1e-5f, 0.18f, 1.0f, 1.0f,
                      1.0f, 0, nullptr, head.data(), norm.data()};
    Layer layer{};
    layer.qkv = qkv.data();
    layer.out = out.data();
    layer.gate_up = gate_up.data();
    layer.down = down.data();
    layer.attention_norm = layer.mlp_norm = norm.data();
    layer.rotates = 1;
    void* decoder = llmserve_decoder_create(&shape, &layer);
    std::vector<bf16> keys(blocks * kv_heads * block_size * dim), values(keys.size());
    bf16 *key_layers[] = {keys.data()}, *value_layers[] = {values.data()};
    const int32_t table[] = {1, 0};
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 20}, {20, 21}}) {
        const int64_t count = end - begin;
        std::vector<int64_t> ids(count), positions(count), slots(count);
        for (int64_t i = 0; i < count; ++i) {
            const int64_t at = begin + i;
            ids[i] = at * 7 % vocab;
            positions[i] = at;
            slots[i] = table[at / block_size] * block_size + at % block_size;
        }
        const int64_t sampled[] = {count - 1};
        const int32_t starts[] = {0, static_cast<int32_t>(count)};
        const int32_t lengths[] = {static_cast<int32_t>(end)};
        std::vector<float> logits(vocab);
        const Step step{count, 1, 1, blocks, length, blocks, block_size, 2, ids.data(),
                        positions.data(), slots.data(), sampled, starts, lengths, table,
                        cosines.data(), sines.data(), key_layers, value_layers, logits.data(), 0,
                        nullptr};
        if (llmserve_decoder_step(decoder, &step) != 0) std::printf("decoder-failed 1\n");
        for (int64_t i = 0; i < vocab; ++i)
            std::printf("logit-%d-%d %.6f\n", static_cast<int>(begin), static_cast<int>(i), logits[i]);
    }
}

}  // namespace

int main() {
    for (const int64_t rows : {1, 2, 3, 5, 8, 17, 40})
        for (const int64_t depth : {16, 90, 1100})
            std::printf("linear %g\n", linear(rows, depth, 40));
    for (const int64_t window : {0, 20})
        for (const int64_t block_size : {8, 16})
            for (const int64_t dim : {32, 48, 64}) {
                std::printf("decode %g\n", attention(1, 70, 4, dim, block_size, window));
                std::printf("decode-many %g\n", attention(1, 41, 12, dim, block_size, window));
                std::printf("prefill %g\n", attention(37, 9, 2, dim, block_size, window));
            }
    std::printf("sampling %g\n", sampling(1000));
    decoder();
}
