// AMX: permission, tile configuration, and the block products that run on tiles.
#pragma once

#include "lanes.h"

#if defined(__AMX_BF16__)
#define LLMSERVE_TILES 1
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#define LLMSERVE_TILES 0
#endif

namespace llmserve {

#if !LLMSERVE_TILES

inline bool request_tiles() { return false; }

class TileScope {
  public:
    explicit TileScope(bool) {}
};

#else

// The kernel grants the 8 KB of tile state to a process that asks once.
inline bool request_tiles() {
    static const bool granted = [] {
        uint32_t a, b, c, d;
        if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
        constexpr uint32_t amx_bf16 = 1u << 22, amx_tile = 1u << 24;
        if ((d & amx_bf16) == 0 || (d & amx_tile) == 0) return false;
        constexpr long request_permission = 0x1023, tile_data = 18;
        return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
    }();
    return granted;
}

// The tile intrinsics do not tell the compiler that they read memory: without this it may move a
// store past the tile load that needs it, or drop it.
inline void compiler_barrier() { asm volatile("" ::: "memory"); }

// All eight tiles have 16 rows of 64 bytes: shorter matrices are padded instead.
class TileScope {
  public:
    explicit TileScope(bool enabled) : enabled_(enabled) {
        if (!enabled_) return;
        struct alignas(64) {
            uint8_t palette = 1, start_row = 0, reserved[14] = {};
            uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
        } config;
        compiler_barrier();
        _tile_loadconfig(&config);
    }
    // Otherwise idle tiles would be saved at every context switch.
    ~TileScope() {
        if (enabled_) _tile_release();
    }
    TileScope(const TileScope&) = delete;
    TileScope& operator=(const TileScope&) = delete;

  private:
    bool enabled_;
};

template <int M, int P>
inline void load_products(const float* c, int64_t stride) {
    if constexpr (M == 2 && P == 2) {
        _tile_loadd(0, c, stride);
        _tile_loadd(1, c + 16, stride);
        _tile_loadd(2, c + 4 * stride, stride);
        _tile_loadd(3, c + 4 * stride + 16, stride);
    } else {
        _tile_loadd(0, c, stride);
        if constexpr (P > 1) _tile_loadd(1, c + 16, stride);
        if constexpr (P > 2) _tile_loadd(2, c + 32, stride);
        if constexpr (P > 3) _tile_loadd(3, c + 48, stride);
        if constexpr (M == 2) _tile_loadd(2, c + 4 * stride, stride);
    }
}

template <int M, int P>
inline void store_products(float* c, int64_t stride) {
    if constexpr (M == 2 && P == 2) {
        _tile_stored(0, c, stride);
        _tile_stored(1, c + 16, stride);
        _tile_stored(2, c + 4 * stride, stride);
        _tile_stored(3, c + 4 * stride + 16, stride);
    } else {
        _tile_stored(0, c, stride);
        if constexpr (P > 1) _tile_stored(1, c + 16, stride);
        if constexpr (P > 2) _tile_stored(2, c + 32, stride);
        if constexpr (P > 3) _tile_stored(3, c + 48, stride);
        if constexpr (M == 2) _tile_stored(2, c + 4 * stride, stride);
    }
}

// c (16·M rows, 16·P columns) = or += a (16·M rows, depth) × P panels.
struct TileBlock {
    const bf16* a;  // tiles of 16 rows of 32 numbers, one after the other
    int64_t a_stride;  // to the next 16 rows
    const bf16* b;
    int64_t b_stride;  // to the next panel
    int64_t depth;
    float* c;
    int64_t c_stride;
    bool accumulate;
    bool ahead;  // prefetch the weights that follow, the next panels' too
};

template <int M, int P>
void tile_product(const TileBlock& block) {
    static_assert(M * P <= 4);
    const int64_t a_stride = block.a_stride, b_stride = block.b_stride;
    compiler_barrier();
    if (block.accumulate) {
        load_products<M, P>(block.c, block.c_stride * 4);
    } else {
        _tile_zero(0);
        if constexpr (P > 1) _tile_zero(1);
        if constexpr (M == 2 || P > 2) _tile_zero(2);
        if constexpr (M * P == 4) _tile_zero(3);
    }
    for (int64_t k = 0; k < block.depth; k += 32) {
        const bf16* rows = block.a + k * 16;
        const bf16* weights = block.b + k * kLanes;
        if (block.ahead) {
            const int64_t position = k * kLanes + kAhead;
            const bf16* next =
                block.b + position + (position < b_stride ? 0 : (P - 1) * b_stride);
            for (int p = 0; p < P; ++p)
                for (int line = 0; line < 16; ++line)
                    prefetch_line(next + p * b_stride + line * 32);
        }
        if constexpr (M == 2 && P == 2) {
            _tile_loadd(6, weights, 64);
            _tile_loadd(4, rows, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, weights + b_stride, 64);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, rows + a_stride, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        } else if constexpr (M == 2) {
            _tile_loadd(6, weights, 64);
            _tile_loadd(4, rows, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(5, rows + a_stride, 64);
            _tile_dpbf16ps(2, 5, 6);
        } else {
            _tile_loadd(4, rows, 64);
            _tile_loadd(5, weights, 64);
            _tile_dpbf16ps(0, 4, 5);
            if constexpr (P > 1) {
                _tile_loadd(6, weights + b_stride, 64);
                _tile_dpbf16ps(1, 4, 6);
            }
            if constexpr (P > 2) {
                _tile_loadd(7, weights + 2 * b_stride, 64);
                _tile_dpbf16ps(2, 4, 7);
            }
            if constexpr (P > 3) {
                _tile_loadd(5, weights + 3 * b_stride, 64);
                _tile_dpbf16ps(3, 4, 5);
            }
        }
    }
    store_products<M, P>(block.c, block.c_stride * 4);
}

#endif

}  // namespace llmserve
