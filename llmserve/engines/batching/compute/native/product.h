// Matrix products with packed weights.
//
// A weight (N, K) is packed into panels of 16 of its rows, that is 16 columns of the product:
//
//   panel 0   k 0,1: column 0 | column 1 | ... | column 15     one cache line: a pair of k for each
//             k 2,3: column 0 | ...                            column
//             ...    up to K rounded up to 32, with zeros
//   panel 1   ...
//
// One layout for both instruction sets: a line is an operand of AVX-512's dot product, 16 lines
// are a tile of AMX.
#pragma once

#include <algorithm>

#include "lanes.h"
#include "tiles.h"

namespace llmserve {

inline int64_t packed_depth(int64_t depth) { return round_up(depth, 32); }

// The left side of a product is stored in tiles too, 16 rows of 32 numbers, one tile after the
// other along the rows: a stream for the prefetcher, and no two rows a multiple of 4 KB apart.
inline int64_t tile_place(int64_t row, int64_t column, int64_t depth) {
    return (row / 16 * depth + column / 32 * 32) * 16 + row % 16 * 32 + column % 32;
}

// Packs up to 16 rows of a weight into one panel; the rest is zero.
inline void pack_panel(const bf16* rows, int64_t count, int64_t stride, int64_t depth,
                       bf16* panel) {
    const int64_t padded = packed_depth(depth);
    for (int64_t k = 0; k < padded; k += 32) {
        const int64_t left = std::clamp<int64_t>(depth - k, 0, 32);
        Line lines[16];
        for (int64_t column = 0; column < 16; ++column)
            lines[column] = column < count
                                ? load_line_first(rows + column * stride + k, left)
                                : zero_line();
        transpose(lines);
        for (int64_t pair = 0; pair < 16; ++pair)
            store_line(panel + k * kLanes + pair * 32, lines[pair]);
    }
}

// What `dot_product` reads of the left side: a pair of row r at k. Where the processor multiplies
// pairs they are read in place; elsewhere the rows were widened before, once for all panels.
#if LLMSERVE_MULTIPLIES_PAIRS
struct Left {
    const bf16* first;  // row's place in its tile; the others follow in the same tile
    Pairs pair(int r, int64_t k) const {
        return broadcast_pair(first + k / 32 * 512 + k % 32 + r * 32);
    }
};
#else
struct Left {
    const float* first;
    int64_t stride;  // to the next row
    Pairs pair(int r, int64_t k) const {
        return {broadcast(first[r * stride + k]), broadcast(first[r * stride + k + 1])};
    }
};
#endif

// c (R rows, 16·P columns) = or += a × P panels.
struct DotBlock {
    Left a;
    const bf16* b;
    int64_t b_stride;  // to the next panel
    int64_t depth;
    float* c;
    int64_t c_stride;
    bool accumulate;
    const bf16* next;  // weights to prefetch meanwhile: so many panels, as deep and as far apart
    int64_t num_next;
};

// U chains of sums hide the latency where R·P is small.
template <int R, int P, int U>
void dot_product(const DotBlock& block) {
    Floats sums[U][R][P];
    for (auto& rows : sums)
        for (auto& panels : rows)
            for (auto& sum : panels) sum = zeros();
    for (int64_t k = 0; k < block.depth; k += 2 * U) {
        for (int64_t i = 0; i < block.num_next; ++i)
            for (int u = 0; u < U; ++u)
                prefetch_line_near(block.next + i * block.b_stride + (k + 2 * u) * kLanes);
        for (int u = 0; u < U; ++u) {
            const bf16* line = block.b + (k + 2 * u) * kLanes;
            Pairs weights[P];
            for (int p = 0; p < P; ++p) weights[p] = load_pairs(line + p * block.b_stride);
            for (int r = 0; r < R; ++r) {
                const Pairs pair = block.a.pair(r, k + 2 * u);
                for (int p = 0; p < P; ++p)
                    sums[u][r][p] = dot(sums[u][r][p], weights[p], pair);
            }
        }
    }
    for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) {
            float* target = block.c + r * block.c_stride + p * kLanes;
            Floats sum = sums[0][r][p];
            for (int u = 1; u < U; ++u) sum = sum + sums[u][r][p];
            if (block.accumulate) sum = sum + load_lanes(target);
            store_lanes(target, sum);
        }
}

// `rows` up to R.
template <int R, int P>
void dot_rows(const DotBlock& block, int64_t rows) {
    if (rows == R) return dot_product<R, P, 1>(block);
    if constexpr (R > 1) dot_rows<R - 1, P>(block, rows);
}

#if LLMSERVE_MULTIPLIES_PAIRS

// Rows that are multiplied by P panels at once: their sums stay in the registers.
template <int P>
inline constexpr int64_t kDotRows = kRegisters < 32 ? 6 : P == 4 ? 6 : 8;

// Multiplies all rows by P panels, from `first` on. What comes `next` is prefetched evenly: else
// each product would wait for memory at its start and leave it idle later.
template <int P>
void dot_panels(const bf16* a, int64_t rows, const bf16* b, int64_t depth, int64_t first,
                int64_t part, const bf16* next, float* c, int64_t ldc) {
    const int64_t passes = (rows + kDotRows<P> - 1) / kDotRows<P>;
    const int64_t num_next = (P + passes - 1) / passes, stride = depth * kLanes;
    int64_t prefetched = 0;
    for (int64_t r = 0, some = 0; r < rows; r += some) {
        const int64_t num_now = std::min(P - prefetched, num_next);
        some = std::min({kDotRows<P>, rows - r, 16 - r % 16});
        const DotBlock block{{a + tile_place(r, first, depth)}, b + first * kLanes, stride, part,
                             c + r * ldc, ldc, first > 0, next + prefetched * stride, num_now};
        dot_rows<kDotRows<P>, P>(block, some);
        prefetched += num_now;
    }
}

// Deep sums are computed in parts, so that these and the next weights stay in the L2 cache.
inline constexpr int64_t kDepthPart = 2048;

template <int P>
void dot_parts(const bf16* a, int64_t rows, const bf16* b, int64_t depth, float* c, int64_t ldc) {
    const int64_t parts = (depth + kDepthPart - 1) / kDepthPart;
    const int64_t part = round_up((depth + parts - 1) / parts, 32);
    for (int64_t first = 0; first < depth; first += part) {
        const bool last = first + part >= depth;
        const bf16* next = last ? b + P * depth * kLanes : b + (first + part) * kLanes;
        dot_panels<P>(a, rows, b, depth, first, std::min(part, depth - first), next, c, ldc);
    }
}

inline void multiply_dots(const bf16* a, int64_t rows, const bf16* b, int64_t panels, int64_t depth,
                          float* c, int64_t ldc) {
    const auto weights = [&](int64_t p) { return b + p * depth * kLanes; };
    int64_t p = 0;
    // So few rows only wait for memory: panel after panel the weights are one stream. How a sum is
    // split into chains may depend on the number of rows, but not on that of panels: else results
    // would change with the number of threads.
    for (; rows <= 3 && p < panels; ++p) {
        const DotBlock block{{a}, weights(p), 0, depth, c + p * kLanes, ldc, false,
                             weights(p) + kAhead, 1};
        if (rows == 1) dot_product<1, 1, 8>(block);
        if (rows == 2) dot_product<2, 1, 4>(block);
        if (rows == 3) dot_product<3, 1, 4>(block);
    }
    if constexpr (kRegisters >= 32) {
        for (; panels - p >= 4; p += 4)
            dot_parts<4>(a, rows, weights(p), depth, c + p * kLanes, ldc);
        for (; panels - p >= 2; p += 2)
            dot_parts<2>(a, rows, weights(p), depth, c + p * kLanes, ldc);
    }
    for (; p < panels; ++p) dot_parts<1>(a, rows, weights(p), depth, c + p * kLanes, ldc);
}

// c (rows up to 8, 16 columns) = a × one panel; the rows are in one tile.
inline void multiply_panel(const bf16* a, int64_t rows, const bf16* b, int64_t depth, float* c,
                           int64_t ldc) {
    const DotBlock block{{a}, b, 0, depth, c, ldc, false, b + kAhead, 1};
    if (rows == 1)
        dot_product<1, 1, 8>(block);
    else if (rows == 2)
        dot_product<2, 1, 4>(block);
    else if (rows <= 4)
        dot_product<4, 1, 4>(block);
    else
        dot_rows<8, 1>(block, rows);
}

#else

// Rows that are multiplied at once: their sums stay in the registers, beside a panel's numbers.
inline constexpr int64_t kDotRows = kRegisters >= 32 ? 8 : 4;

// Deep sums are computed in parts, so that the widened rows stay in the L1 cache.
inline constexpr int64_t kDepthPart = 1024;

// The numbers of a row from `column` on, up to the end of the part, as float32.
inline void widen(const bf16* a, int64_t row, int64_t depth, int64_t column, int64_t count,
                  float* out) {
    for (int64_t k = 0; k < count; k += kLanes)
        store_lanes(out + k, load_bf16(a + tile_place(row, column + k, depth)));
}

// `first_row` is a row's place in the 16 of its tile.
inline void multiply_dots(const bf16* a, int64_t rows, const bf16* b, int64_t panels, int64_t depth,
                          float* c, int64_t ldc) {
    alignas(64) float wide[kDotRows * kDepthPart];
    for (int64_t first = 0; first < depth; first += kDepthPart) {
        const int64_t part = std::min(kDepthPart, depth - first);
        for (int64_t r = 0, some = 0; r < rows; r += some) {
            some = std::min(kDotRows, rows - r);
            for (int64_t i = 0; i < some; ++i)
                widen(a, r + i, depth, first, part, wide + i * kDepthPart);
            for (int64_t p = 0; p < panels; ++p) {
                const bf16* weights = b + p * depth * kLanes + first * kLanes;
                const bool last = p + 1 == panels;
                const bf16* next = last ? b + (first + part) * kLanes : weights + depth * kLanes;
                const DotBlock block{{wide, kDepthPart}, weights, 0, part, c + r * ldc + p * kLanes,
                                     ldc, first > 0, next, r == 0};
                // How a sum is split into chains may depend on the number of rows, but not on that
                // of panels: else results would change with the number of threads.
                if (some == 1)
                    dot_product<1, 1, kRegisters >= 32 ? 8 : 2>(block);
                else if (some == 2)
                    dot_product<2, 1, kRegisters >= 32 ? 4 : 1>(block);
                else
                    dot_rows<kDotRows, 1>(block, some);
            }
        }
    }
}

// c (rows up to 8, 16 columns) = a × one panel; the rows are in one tile, which `a` may begin in.
inline void multiply_panel(const bf16* a, int64_t rows, const bf16* b, int64_t depth, float* c,
                           int64_t ldc) {
    multiply_dots(a, rows, b, 1, depth, c, ldc);
}

#endif


#if LLMSERVE_TILES

// Reads and writes rows up to the next multiple of 16.
template <int M, int P>
void tile_rows(const bf16* a, int64_t rows, const bf16* b, int64_t depth, int64_t first,
               int64_t part, float* c, int64_t ldc) {
    a += first * 16;
    b += first * kLanes;
    for (int64_t r = 0; r < rows; r += 16 * M) {
        const TileBlock block{a + r * depth, depth * 16, b, depth * kLanes, part,
                              c + r * ldc, ldc, first > 0, r == 0};
        if (M == 2 && rows - r <= 16)
            tile_product<1, P>(block);
        else
            tile_product<M, P>(block);
    }
}

inline void multiply_tiles(const bf16* a, int64_t rows, const bf16* b, int64_t panels,
                           int64_t depth, float* c, int64_t ldc) {
    for (int64_t first = 0; first < depth; first += kDepthPart) {
        const int64_t part = std::min(kDepthPart, depth - first);
        int64_t p = 0;
        const auto weights = [&] { return b + p * depth * kLanes; };
        if (rows <= 16)
            for (; panels - p >= 4; p += 4)
                tile_rows<1, 4>(a, rows, weights(), depth, first, part, c + p * kLanes, ldc);
        for (; panels - p >= 2; p += 2)
            tile_rows<2, 2>(a, rows, weights(), depth, first, part, c + p * kLanes, ldc);
        if (p < panels)
            tile_rows<2, 1>(a, rows, weights(), depth, first, part, c + p * kLanes, ldc);
    }
}

// Tiles cost the same for 1 row as for 16: with fewer rows than this, dot products are faster.
inline constexpr int64_t kTileRows = 5;

#endif

// c (rows, 16·panels) float32 = a × panels. `a` is in tiles, with zeros between the true depth and
// `depth`, the packed one; a and c have room for rows rounded up to a multiple of 16.
inline void multiply(bool tiles, const bf16* a, int64_t rows, const bf16* b, int64_t panels,
                     int64_t depth, float* c, int64_t ldc) {
#if LLMSERVE_TILES
    if (tiles && rows >= kTileRows) return multiply_tiles(a, rows, b, panels, depth, c, ldc);
#endif
    multiply_dots(a, rows, b, panels, depth, c, ldc);
}

}  // namespace llmserve
