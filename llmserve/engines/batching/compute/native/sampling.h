// Chooses a token from a row of logits: the largest, or a draw from those that the filters leave.
//
// A filter is a threshold: top-k, top-p and min-p each keep the logits that are not below some
// value. A draw inverts the cumulative distribution, in the order of token ids, at a given uniform
// number; it sums over stretches of the row first, and looks at single tokens in one stretch only.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "lanes.h"
#include "rows.h"

namespace llmserve {

// How one row's token is chosen. Filled by Python; the fields are those in kernels.py.
struct SamplingParams {
    double uniform;             // in [0, 1)
    float inverse_temperature;  // 0: the largest logit
    float top_p, min_p;         // 1 and 0: no filter
    int64_t top_k;              // 0: no filter
};

// The result if logits are not numbers.
inline constexpr int64_t kNoToken = -1;

class Row {
  public:
    // `scratch` has room for `size` numbers, up to a multiple of 16.
    Row(const float* logits, int64_t size, float* scratch)
        : logits_(logits), size_(size), values_(scratch) {}

    int64_t sample(const SamplingParams& params) {
        if (!find_largest()) return kNoToken;
        if (params.inverse_temperature == 0.0f) return first_largest();
        scale_ = params.inverse_temperature * kLog2E;
        return draw(least_logit(params), params.uniform);
    }

  private:
    static constexpr float kLog2E = 1.44269504f;
    static constexpr float kNothing = -std::numeric_limits<float>::infinity();
    static constexpr int64_t kStretches = 256;
    // How far below the largest probability, in powers of two, candidates for top-k and top-p are
    // gathered; the next one is tried if there are too few. The last takes everything.
    static constexpr float kReaches[] = {10.0f, 20.0f, std::numeric_limits<float>::infinity()};
    // This few are sorted rather than partitioned further.
    static constexpr int64_t kFew = 32;

    Floats load(int64_t i) const {
        return load_some(logits_ + i, first_lanes(size_ - i), broadcast(kNothing));
    }

    // Probabilities, relative to the largest one.
    Floats weigh(Floats logits) const {
        const Floats below = logits - broadcast(largest_);
        // Far below the rest, 2^x is 0 and still a number.
        return exp2_lanes(larger(below * broadcast(scale_),
                                        broadcast(-200.0f)));
    }

    // False if a logit is not a number, or none is finite.
    bool find_largest() {
        Floats largest = broadcast(kNothing);
        Mask unordered = 0;
        for (int64_t i = 0; i < size_; i += kLanes) {
            const Floats x = load(i);
            unordered |= not_numbers(x);
            largest = larger(largest, x);
        }
        largest_ = reduce_max(largest);
        return unordered == 0 && std::isfinite(largest_);
    }

    int64_t first_largest() const {
        const Floats largest = broadcast(largest_);
        for (int64_t i = 0;; i += kLanes)
            if (const Mask here = equal(load(i), largest))
                return i + __builtin_ctz(here);
    }

    float least_logit(const SamplingParams& params) {
        float least = kNothing;
        const int64_t top_k = params.top_k < size_ ? params.top_k : 0;
        if (top_k > 0 || params.top_p < 1.0f) least = least_of_best(top_k, params.top_p);
        if (params.min_p > 0.0f)
            least = std::max(least, largest_ + std::log2(std::min(params.min_p, 1.0f)) / scale_);
        return least;
    }

    // The least logit of the fewest that reach the share `top_p` of the `top_k` largest, or of all.
    float least_of_best(int64_t top_k, float top_p) {
        const double all = top_k == 0 ? total() : 0.0;
        int64_t count = 0;
        double mass = 0.0;
        for (const float reach : kReaches) {
            count = gather(largest_ - reach / scale_);
            if (top_k > 0) {
                if (count < top_k) continue;
                float* kth = values_ + top_k - 1;
                std::nth_element(values_, kth, values_ + count, std::greater<float>());
                const float least = *kth;
                if (top_p >= 1.0f) return least;
                // Those equal to the last one stay.
                count = std::partition(values_ + top_k, values_ + count,
                                       [=](float x) { return x >= least; }) - values_;
                mass = weight_of(0, count);
                return reaching(count, top_p * mass);
            }
            mass = weight_of(0, count);
            if (mass >= top_p * all) break;
        }
        return reaching(count, std::min(top_p * all, mass));
    }

    // Collects the logits from `least` up, unordered; returns how many.
    int64_t gather(float least) {
        int64_t count = 0;
        const Floats bound = broadcast(least);
        for (int64_t i = 0; i < size_; i += kLanes) {
            const Floats x = load(i);
            const Mask kept =
                at_least(x, bound) & first_lanes(size_ - i);
            store_packed(values_ + count, kept, x);
            count += __builtin_popcount(kept);
        }
        return count;
    }

    // The largest value that, with those above it, weighs at least `mass`. As in quickselect, each
    // turn partitions what is left and goes on in one side.
    float reaching(int64_t count, double mass) {
        if (mass <= 0.0) return largest_;
        int64_t begin = 0, end = count;
        while (end - begin > kFew) {
            const float a = values_[begin], b = values_[begin + (end - begin) / 2];
            const float c = values_[end - 1];
            const float pivot = std::max(std::min(a, b), std::min(std::max(a, b), c));
            float* above = std::partition(values_ + begin, values_ + end,
                                          [=](float x) { return x > pivot; });
            float* equal =
                std::partition(above, values_ + end, [=](float x) { return x == pivot; });
            const double upper = weight_of(begin, above - values_);
            const double middle = weight_of(above - values_, equal - values_);
            if (upper >= mass) {
                end = above - values_;
            } else if (upper + middle >= mass) {
                return pivot;
            } else {
                mass -= upper + middle;
                begin = equal - values_;
            }
        }
        std::sort(values_ + begin, values_ + end, std::greater<float>());
        double reached = 0.0;
        for (int64_t i = begin; i < end; ++i) {
            reached += weight_of(i, i + 1);
            if (reached >= mass) return values_[i];
        }
        // Rounding: sums in another order were a little larger.
        return *std::min_element(values_, values_ + count);
    }

    double weight_of(int64_t begin, int64_t end) const {
        double sum = 0.0;
        for (int64_t first = begin; first < end; first += 64 * kLanes) {
            Floats part = zeros();
            const int64_t last = std::min(end, first + 64 * kLanes);
            for (int64_t i = first; i < last; i += kLanes) {
                const Mask lanes = first_lanes(last - i);
                part = part + choose(lanes, weigh(load_some(values_ + i, lanes)), zeros());
            }
            sum += reduce_add(part);
        }
        return sum;
    }

    double total() const {
        double sum = 0.0;
        for (int64_t first = 0; first < size_; first += stretch())
            sum += weight_from(first, kNothing);
        return sum;
    }

    int64_t stretch() const { return round_up((size_ + kStretches - 1) / kStretches, kLanes); }

    // The weights of tokens whose logits are not below `least`; zero for others.
    Floats weights(int64_t i, Floats least) const {
        const Floats x = load(i);
        return choose(at_least(x, least), weigh(x), zeros());
    }

    float weight_from(int64_t first, float least) const {
        const Floats bound = broadcast(least);
        Floats sum = zeros();
        const int64_t last = std::min(size_, first + stretch());
        for (int64_t i = first; i < last; i += kLanes) sum = sum + weights(i, bound);
        return reduce_add(sum);
    }

    int64_t draw(float least, double uniform) const {
        double sums[kStretches], sum = 0.0;
        const int64_t length = stretch(), count = (size_ + length - 1) / length;
        for (int64_t i = 0; i < count; ++i)
            sum += sums[i] = weight_from(i * length, least);
        double left = uniform * sum;
        // Rounding may reach the end: then it is the last token with any weight.
        int64_t found = 0;
        for (int64_t i = 0; i < count; ++i) {
            if (sums[i] == 0.0) continue;
            found = i;
            if (left < sums[i]) break;
            left -= sums[i];
        }
        const int64_t first = found * length;
        return draw_within(first, std::min(size_, first + length), least, left);
    }

    int64_t draw_within(int64_t first, int64_t end, float least, double left) const {
        const Floats bound = broadcast(least);
        int64_t last = first;
        for (int64_t i = first; i < end; i += kLanes) {
            alignas(64) float weight[kLanes];
            store_lanes(weight, weights(i, bound));
            for (int64_t lane = 0; lane < std::min(kLanes, end - i); ++lane) {
                if (weight[lane] == 0.0f) continue;
                last = i + lane;
                if (left < weight[lane]) return last;
                left -= weight[lane];
            }
        }
        return last;
    }

    const float* logits_;
    const int64_t size_;
    float* values_;
    float largest_ = 0.0f, scale_ = 0.0f;
};

}  // namespace llmserve
