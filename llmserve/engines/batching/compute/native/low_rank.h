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

// The sites whose results are columns of one product, and where theirs are.
struct SiteGroup {
    int64_t first, count;
    int64_t ends[3];   // panels, where each site's end; unused if they alternate
    bool alternate;    // panel p is site p % count's

    // The site of a panel, and which one of its own the panel is.
    void find(int64_t panel, int64_t& site, int64_t& own) const {
        if (alternate) {
            site = panel % count;
            own = panel / count;
            return;
        }
        site = 0;
        while (panel >= ends[site]) ++site;
        own = site == 0 ? panel : panel - ends[site - 1];
    }
};

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

    // rows × down; a barrier must follow. `rows` is in tiles, `depth` its packed depth.
    void shrink(int64_t layer, const SiteGroup& group, const bf16* rows, int64_t depth,
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
    void expand(int64_t layer, const SiteGroup& group, int64_t row, int64_t count, int64_t panel,
                int64_t panels, float* sums) const {
        const int64_t width = panels * kLanes;
        for (const Segment& segment : segments_) {
            const int64_t begin = std::max(row, segment.start);
            const int64_t end = std::min(row + count, segment.stop);
            if (begin >= end) continue;
            for (int64_t p = 0; p < panels; ++p) {
                int64_t site, own;
                group.find(panel + p, site, own);
                const LowRank& add = pair(segment, layer, group, site);
                if (add.rank == 0) continue;
                const int64_t deep = round_up(add.rank, 2);
                const bf16* up = add.up + own * deep * kLanes;
                for (int64_t r = begin, some = 0; r < end; r += some) {
                    some = std::min({int64_t{8}, end - r, 16 - r % 16});
                    const DotBlock block{shrunk(site) + tile_place(r, 0, depth_), up, 0, deep,
                                         sums + (r - row) * width + p * kLanes, width, true,
                                         nullptr, 0};
                    dot_rows<8, 1>(block, some);
                }
            }
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
            const DotBlock block{rows + tile_place(r, 0, depth), down, 0, depth,
                                 sums, kLanes, false, nullptr, 0};
            if (some == 1)
                dot_product<1, 1, 8>(block);
            else if (some == 2)
                dot_product<2, 1, 4>(block);
            else if (some <= 4)
                dot_product<4, 1, 4>(block);
            else
                dot_rows<8, 1>(block, some);
            for (int64_t i = 0; i < some; ++i)
                store_bf16(shrunk(site) + tile_place(r + i, panel * kLanes, depth_),
                           _mm512_load_ps(sums + i * kLanes));
        }
    }

    std::vector<Segment> segments_;
    Buffer<bf16> shrunk_;  // (3, rows, depth), each in tiles
    int64_t rows_ = 0, depth_ = 0;
};

}  // namespace llmserve
