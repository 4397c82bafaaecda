// A linear layer on a packed weight, for models whose other parts run in torch.
#pragma once

#include <omp.h>

#include <vector>

#include "buffer.h"
#include "cut.h"
#include "product.h"
#include "rows.h"

namespace llmserve {

// Filled by Python; the fields are those in kernels.py.
struct Linear {
    int64_t depth, columns;
    const bf16* weight;  // packed
    const float* bias;   // null: none
};

// Memory shared by the layers of one model, which run one after another.
class LinearWorkspace {
  public:
    // out (rows, columns) = x (rows, depth) × weight + bias
    void run(const Linear& layer, const bf16* x, int64_t rows, bf16* out, bool tiles, int threads) {
        const int64_t depth = packed_depth(layer.depth);
        const int64_t panels = (layer.columns + kLanes - 1) / kLanes;
        const Cut cut = Cut::evenly(rows, panels, 2, threads);
        prepare(cut, depth, threads);
#pragma omp parallel num_threads(threads)
        {
            const FlushTiny flush;
            const TileScope scope(tiles);
            float* product = products_[omp_get_thread_num()].data();
#pragma omp for schedule(static)
            for (int64_t row = 0; row < rows; ++row)
                lay_in_tiles(x + row * layer.depth, layer.depth, row);
#pragma omp for schedule(dynamic) nowait
            for (int64_t task = 0; task < cut.tasks(); ++task)
                cut.with_task(task, [&](int64_t row, int64_t count, int64_t panel, int64_t width) {
                    multiply(tiles, left_.data() + row * depth, count,
                             layer.weight + panel * depth * kLanes, width, depth, product,
                             width * kLanes);
                    for (int64_t i = 0; i < count; ++i)
                        finish(layer, panel * kLanes, product + i * width * kLanes, width * kLanes,
                               out + (row + i) * layer.columns);
                });
        }
    }

  private:
    // All memory is allocated here: no thread may throw in the parallel region.
    void prepare(const Cut& cut, int64_t depth, int threads) {
        // Tiles read and write 16 rows at a time.
        left_.reserve(round_up(cut.rows, 16) * depth);
        while (static_cast<int>(products_.size()) < threads) products_.emplace_back();
        for (auto& product : products_)
            product.reserve(round_up(cut.row_part, 16) * cut.panel_part * kLanes);
    }

    void lay_in_tiles(const bf16* source, int64_t depth, int64_t row) {
        const int64_t padded = packed_depth(depth);
        for (int64_t k = 0; k < padded; k += 32) {
            store_line(left_.data() + tile_place(row, k, padded),
                       load_line_first(source + k, depth - k));
        }
    }

    static void finish(const Linear& layer, int64_t column, const float* sums, int64_t width,
                       bf16* target) {
        for (int64_t i = 0; i < std::min(width, layer.columns - column); i += kLanes) {
            const Mask lanes = first_lanes(layer.columns - column - i);
            Floats sum = load_lanes(sums + i);
            if (layer.bias != nullptr)
                sum = sum + load_some(layer.bias + column + i, lanes);
            store_some_bf16(target + column + i, lanes, sum);
        }
    }

    Buffer<bf16> left_;  // the rows, in tiles
    std::vector<Buffer<float>> products_;
};

}  // namespace llmserve
