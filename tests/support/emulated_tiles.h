// AMX's tile instructions in plain C++, included before the kernels' sources: their tests run on any
// processor, and the compiler forgets Intel's own. All tiles have 16 rows of 64 bytes.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace emulated {

struct Tile {
    unsigned char rows[16][64];
};
inline thread_local Tile tiles[8];

inline void load(int tile, const void* base, int64_t stride) {
    for (int row = 0; row < 16; ++row)
        std::memcpy(tiles[tile].rows[row], static_cast<const char*>(base) + row * stride, 64);
}

inline void store(int tile, void* base, int64_t stride) {
    for (int row = 0; row < 16; ++row)
        std::memcpy(static_cast<char*>(base) + row * stride, tiles[tile].rows[row], 64);
}

inline void zero(int tile) { tiles[tile] = {}; }

// A row of a has pairs of k, a row of b one pair of k for each column.
inline void multiply(int c, int a, int b) {
    const auto number = [](const unsigned char* half) {
        uint32_t word = 0;
        std::memcpy(reinterpret_cast<char*>(&word) + 2, half, 2);
        float value;
        std::memcpy(&value, &word, 4);
        return value;
    };
    float sums[16][16];
    std::memcpy(sums, tiles[c].rows, sizeof sums);
    for (int row = 0; row < 16; ++row)
        for (int k = 0; k < 32; ++k)
            for (int column = 0; column < 16; ++column)
                sums[row][column] += number(tiles[a].rows[row] + 2 * k) *
                                     number(tiles[b].rows[k / 2] + 4 * column + k % 2 * 2);
    std::memcpy(tiles[c].rows, sums, sizeof sums);
}

}  // namespace emulated

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadd emulated::load
#define _tile_stored emulated::store
#define _tile_zero emulated::zero
#define _tile_dpbf16ps emulated::multiply
#define _tile_loadconfig(config) static_cast<void>(config)
#define _tile_release() static_cast<void>(0)
