// How a product is divided into tasks for several threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace llmserve {

// Rows of one task: they stay in the L2 cache while all its panels are multiplied.
inline constexpr int64_t kRowPart = 256;

// Ranges of rows × groups of panels.
struct Cut {
    int64_t rows, row_part, panels, panel_part;

    int64_t row_parts() const { return (rows + row_part - 1) / row_part; }
    int64_t panel_parts() const { return (panels + panel_part - 1) / panel_part; }
    int64_t tasks() const { return row_parts() * panel_parts(); }

    // Groups of panels, a multiple of `unit`, small enough that all threads get several.
    static Cut evenly(int64_t rows, int64_t panels, int64_t unit, int64_t threads) {
        Cut cut{rows, std::clamp<int64_t>(rows, 1, kRowPart), panels, unit};
        const int64_t wanted = 6 * threads;
        while (cut.panel_part * 2 <= 8 && cut.tasks() / 2 >= wanted) cut.panel_part *= 2;
        return cut;
    }

    // Calls run(first row, rows, first panel, panels) for a task. Weights are read from memory
    // once: all rows are multiplied before the next panels.
    template <class Run>
    void with_task(int64_t task, Run run) const {
        const int64_t row = task % row_parts() * row_part;
        const int64_t panel = task / row_parts() * panel_part;
        run(row, std::min(row_part, rows - row), panel, std::min(panel_part, panels - panel));
    }
};

}  // namespace llmserve
