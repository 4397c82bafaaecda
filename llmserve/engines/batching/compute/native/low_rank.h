// What adapters add to a step's products: rows × down × up, each row with its own adapter's.
//
// `down` (rank, depth) is packed like every weight. `up` (columns, rank) is in panels of 16 columns,
// too, but only as deep as the rank, rounded up to pairs:
//
//   panel 0   k 0,1: column 0 | column 1 | ... | column 15
//             k 2,3: ...
#pragma once

#include <algorithm>
#include <vector>

#include "buffer.h"
#include "lanes.h"
#include "product.h"
#include "team.h"

namespace llmserve {

// Filled by Python; the fields are those in kernels.py.
struct LowRank {
    const bf16 *down, *up;
    int64_t rank;  // 0: nothing is added
};

// The layers of a decoder's layer that adapters may change, in the order of an adapter's table.
enum Site : int64_t { kQuery, kKey, kValue, kOut, kGate, kUp, kDown, kSites };

// Rows of a step with the same adapter; `table` has kSites pairs for each layer.
struct Segment {
    int64_t start, stop;
    const LowRank* table;
};

// Panels of one site among those of a product: `count` from its own `first` on, which are every
// `step`-th of the product's from `place` on.
struct SitePanels {
    int64_t first, count, place, step;
};

// The sites whose results are columns of one product: one after the other, or alternating by panel.
struct SiteGroup {
    int64_t first, count;
    int64_t ends[3];  // of each, in panels, if they do not alternate
    bool alternate;

    // Calls run(site, its panels) for the sites that have some of the product's panels.
    template <class Run>
    void each_site(int64_t panel, int64_t panels, Run run) const {
        for (int64_t site = 0; site < count; ++site) {
            SitePanels own;
            if (alternate) {
                own.first = (panel + count - 1 - site) / count;
                own.count = (panel + panels + count - 1 - site) / count - own.first;
                own.place = own.first * count + site - panel;
                own.step = count;
            } else {
                const int64_t start = site == 0 ? 0 : ends[site - 1];
                const int64_t begin = std::max(panel, start);
                own.first = begin - start;
                own.count = std::min(panel + panels, ends[site]) - begin;
                own.place = begin - panel;
                own.step = 1;
            }
            if (own.count > 0) run(site, own);
        }
    }
};

// sums (R rows, every `step`-th of P panels) += R rows of a left side × panels of `deep` numbers.
template <int R, int P>
inline void add_low_rank(const bf16* a, const bf16* up, int64_t deep, float* sums, int64_t width,
                         int64_t step) {
    Floats total[R][P];
    for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) total[r][p] = load_lanes(sums + r * width + p * step);
    for (int64_t k = 0; k < deep; k += 2) {
        Pairs weights[P];
        for (int p = 0; p < P; ++p) weights[p] = load_pairs(up + (p * deep + k) * kLanes);
        const bf16* pairs = a + k / 32 * 512 + k % 32;
        for (int r = 0; r < R; ++r) {
            const Pairs pair = broadcast_pair(pairs + r * 32);
            for (int p = 0; p < P; ++p)
                total[r][p] = dot(total[r][p], weights[p], pair);
        }
    }
    for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) store_lanes(sums + r * width + p * step, total[r][p]);
}

template <int R, int P>
inline void add_low_rank_rows(const bf16* a, int64_t rows, const bf16* up, int64_t deep,
                              float* sums, int64_t width, int64_t step) {
    if (rows == R) return add_low_rank<R, P>(a, up, deep, sums, width, step);
    if constexpr (R > 1) add_low_rank_rows<R - 1, P>(a, rows, up, deep, sums, width, step);
}

class LowRankSums {
  public:
    // Before a step, by one thread: memory for its rows.
    void prepare(const Segment* segments, int64_t count, int64_t layers, int64_t rows) {
        segments_.assign(segments, segments + count);
        int64_t rank = 0;
        for (const Segment& segment : segments_)
            for (int64_t i = 0; i < layers * kSites; ++i)
                rank = std::max(rank, segment.table[i].rank);
        depth_ = packed_depth(rank);
        rows_ = round_up(rows, 16);
        if (count > 0) shrunk_.reserve(3 * rows_ * depth_);
    }

    bool adds(int64_t layer, const SiteGroup& group) const {
        for (const Segment& segment : segments_)
            for (int64_t site = 0; site < group.count; ++site)
                if (pair(segment, layer, group, site).rank > 0) return true;
        return false;
    }

    // rows × down; a barrier must follow. `rows` is in tiles, `depth` its packed depth. Neither this
    // nor `expand` is inlined: products without adapters keep the registers to themselves.
    [[gnu::noinline]] void shrink(int64_t layer, const SiteGroup& group, const bf16* rows, int64_t depth,
                Member& member) {
        int64_t tasks = 0;
        for (const Segment& segment : segments_) tasks += this->tasks(segment, layer, group);
        member.share(tasks, [&](int64_t task) {
            for (const Segment& segment : segments_) {
                const int64_t own = this->tasks(segment, layer, group);
                if (task < own) return shrink_some(segment, layer, group, task, rows, depth);
                task -= own;
            }
        });
    }

    // sums (count rows from `row` on, panels from `panel` on) += shrunk × up
    [[gnu::noinline]] void expand(int64_t layer, const SiteGroup& group, int64_t row, int64_t count,
                                  int64_t panel, int64_t panels, float* sums) const {
        for (const Segment& segment : segments_) {
            const int64_t begin = std::max(row, segment.start);
            const int64_t end = std::min(row + count, segment.stop);
            if (begin >= end) continue;
            group.each_site(panel, panels, [&](int64_t site, const SitePanels& own) {
                const LowRank& add = pair(segment, layer, group, site);
                if (add.rank > 0)
                    expand_some(add, shrunk(site), begin, end, own,
                                sums + (begin - row) * panels * kLanes, panels * kLanes);
            });
        }
    }

  private:
    static constexpr int64_t kRows = 64;  // of a task

    static const LowRank& pair(const Segment& segment, int64_t layer, const SiteGroup& group,
                               int64_t site) {
        return segment.table[layer * kSites + group.first + site];
    }

    static int64_t parts(const Segment& segment) {
        return (segment.stop - segment.start + kRows - 1) / kRows;
    }

    static int64_t rank_panels(const LowRank& add) { return (add.rank + kLanes - 1) / kLanes; }

    int64_t tasks(const Segment& segment, int64_t layer, const SiteGroup& group) const {
        int64_t panels = 0;
        for (int64_t site = 0; site < group.count; ++site)
            panels += rank_panels(pair(segment, layer, group, site));
        return panels * parts(segment);
    }

    bf16* shrunk(int64_t site) { return shrunk_.data() + site * rows_ * depth_; }
    const bf16* shrunk(int64_t site) const { return shrunk_.data() + site * rows_ * depth_; }

    void expand_some(const LowRank& add, const bf16* left, int64_t begin, int64_t end,
                     const SitePanels& own, float* sums, int64_t width) const {
        const int64_t deep = round_up(add.rank, 2), step = own.step * kLanes;
        const bf16* up = add.up + own.first * deep * kLanes;
        // What the next task is likely to read.
        for (int64_t i = 0; i < own.count * deep * kLanes; i += 32)
            prefetch_line_near(up + own.count * deep * kLanes + i);
        for (int64_t r = begin, some = 0; r < end; r += some) {
            some = std::min({int64_t{4}, end - r, 16 - r % 16});
            const bf16* a = left + tile_place(r, 0, depth_);
            float* target = sums + (r - begin) * width + own.place * kLanes;
            int64_t p = 0;
            for (; kRegisters >= 32 && own.count - p >= 4; p += 4)
                add_low_rank_rows<4, 4>(a, some, up + p * deep * kLanes, deep, target + p * step,
                                        width, step);
            for (; p < own.count; ++p)
                add_low_rank_rows<4, 1>(a, some, up + p * deep * kLanes, deep, target + p * step,
                                        width, step);
        }
    }

    // One panel of one site's, for one part of a segment's rows.
    void shrink_some(const Segment& segment, int64_t layer, const SiteGroup& group, int64_t task,
                     const bf16* rows, int64_t depth) {
        const int64_t part = task % parts(segment);
        int64_t panel = task / parts(segment), site = 0;
        while (panel >= rank_panels(pair(segment, layer, group, site)))
            panel -= rank_panels(pair(segment, layer, group, site++));
        const LowRank& add = pair(segment, layer, group, site);
        const bf16* down = add.down + panel * depth * kLanes;
        const int64_t begin = segment.start + part * kRows;
        const int64_t end = std::min(segment.stop, begin + kRows);
        alignas(64) float sums[8 * kLanes];
        for (int64_t r = begin, some = 0; r < end; r += some) {
            some = std::min({int64_t{8}, end - r, 16 - r % 16});
            multiply_panel(rows + tile_place(r, 0, depth), some, down, depth, sums, kLanes);
            for (int64_t i = 0; i < some; ++i)
                store_bf16(shrunk(site) + tile_place(r + i, panel * kLanes, depth_),
                           load_lanes(sums + i * kLanes));
        }
    }

    std::vector<Segment> segments_;
    Buffer<bf16> shrunk_;  // (3, rows, depth), each in tiles
    int64_t rows_ = 0, depth_ = 0;
};

}  // namespace llmserve
