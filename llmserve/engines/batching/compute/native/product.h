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

// The left side of a product lies in tiles too, 16 rows of 32 numbers, one tile after the other
// along the rows: a stream for the prefetcher, and no rows a multiple of 4 KB apart.
inline int64_t tile_place(int64_t row, int64_t column, int64_t depth) {
    return (row / 16 * depth + column / 32 * 32) * 16 + row % 16 * 32 + column % 32;
}

// Sixteen rows of a weight into one panel.
inline void pack_panel(const bf16* rows, int64_t stride, int64_t depth, bf16* panel) {
    const int64_t padded = packed_depth(depth);
    for (int64_t k = 0; k < padded; k += 32) {
        const int64_t left = std::clamp<int64_t>(depth - k, 0, 32);
        const __mmask32 mask = static_cast<__mmask32>((uint64_t{1} << left) - 1);
        __m512i lines[16];
        for (int64_t column = 0; column < 16; ++column)
            lines[column] = _mm512_maskz_loadu_epi16(mask, rows + column * stride + k);
        transpose(lines);
        for (int64_t pair = 0; pair < 16; ++pair)
            _mm512_storeu_si512(panel + k * kLanes + pair * 32, lines[pair]);
    }
}

// c (R rows, 16·P columns) = a × P panels. U chains of sums hide the latency where R·P is small.
// `a` is a row's place in its first tile.
template <int R, int P, int U>
void dot_product(const bf16* a, const bf16* b, int64_t depth, float* c, int64_t ldc) {
    const int64_t panel_stride = depth * kLanes;
    __m512 sums[U][R][P];
    for (auto& rows : sums)
        for (auto& panels : rows)
            for (auto& sum : panels) sum = _mm512_setzero_ps();
    for (int64_t k = 0; k < depth; k += 2 * U) {
        const bf16* pairs = a + k / 32 * 512 + k % 32;
        for (int u = 0; u < U; ++u) {
            const bf16* line = b + (k + 2 * u) * kLanes;
            __m512bh weights[P];
            for (int p = 0; p < P; ++p) {
                weights[p] = load_pairs(line + p * panel_stride);
                if constexpr (P == 1) call_line(line + kAhead);
            }
            for (int r = 0; r < R; ++r) {
                const __m512bh pair = broadcast_pair(pairs + r * 32 + 2 * u);
                for (int p = 0; p < P; ++p)
                    sums[u][r][p] = _mm512_dpbf16_ps(sums[u][r][p], weights[p], pair);
            }
        }
    }
    for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p) {
            __m512 sum = sums[0][r][p];
            for (int u = 1; u < U; ++u) sum = _mm512_add_ps(sum, sums[u][r][p]);
            _mm512_storeu_ps(c + r * ldc + p * kLanes, sum);
        }
}

// Up to 16 rows, those of one row of tiles. How a sum is split into chains may depend on the number
// of rows but not of panels: results would change with the number of threads.
template <int P, bool Few>
void dot_rows(const bf16* a, int64_t rows, const bf16* b, int64_t depth, float* c, int64_t ldc) {
    for (; rows >= 6; rows -= 6, a += 6 * 32, c += 6 * ldc)
        dot_product<6, P, 1>(a, b, depth, c, ldc);
    switch (rows) {
        case 1: return dot_product<1, P, Few ? 8 : 1>(a, b, depth, c, ldc);
        case 2: return dot_product<2, P, Few ? 4 : 1>(a, b, depth, c, ldc);
        case 3: return dot_product<3, P, Few ? 4 : 1>(a, b, depth, c, ldc);
        case 4: return dot_product<4, P, Few ? 2 : 1>(a, b, depth, c, ldc);
        case 5: return dot_product<5, P, Few ? 2 : 1>(a, b, depth, c, ldc);
        default: return;
    }
}

// Few rows run panel after panel, which reads the weights as one stream.
inline void multiply_dots(const bf16* a, int64_t rows, const bf16* b, int64_t panels, int64_t depth,
                          float* c, int64_t ldc) {
    const auto weights = [&](int64_t p) { return b + p * depth * kLanes; };
    if (rows <= 6) {
        for (int64_t p = 0; p < panels; ++p)
            dot_rows<1, true>(a, rows, weights(p), depth, c + p * kLanes, ldc);
        return;
    }
    for (int64_t r = 0; r < rows; r += 16) {
        const int64_t part = std::min<int64_t>(16, rows - r);
        float* target = c + r * ldc;
        int64_t p = 0;
        for (; panels - p >= 4; p += 4)
            dot_rows<4, false>(a + r * depth, part, weights(p), depth, target + p * kLanes, ldc);
        for (; p < panels; ++p)
            dot_rows<1, false>(a + r * depth, part, weights(p), depth, target + p * kLanes, ldc);
    }
}

// Deep sums run in parts, so that the rows' part stays in the second-level cache meanwhile.
inline constexpr int64_t kDepthPart = 2048;

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

// Tiles cost the same for 1 row as for 16: below this many rows plain dot products are faster.
inline constexpr int64_t kTileRows = 5;

// c (rows, 16·panels) float32 = a × panels. `a` lies in tiles, with zeros between the true depth
// and `depth`, the packed one; a and c have room for rows rounded up to 16.
inline void multiply(bool tiles, const bf16* a, int64_t rows, const bf16* b, int64_t panels,
                     int64_t depth, float* c, int64_t ldc) {
    if (tiles && rows >= kTileRows)
        multiply_tiles(a, rows, b, panels, depth, c, ldc);
    else
        multiply_dots(a, rows, b, panels, depth, c, ldc);
}

}  // namespace llmserve
