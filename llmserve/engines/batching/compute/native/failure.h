// Why nothing was computed.
#pragma once

#include <cstdint>

namespace llmserve {

// The numbers are those in kernels.py.
enum class Failure : int32_t { none, memory, tokens, positions, slots, rows, blocks, samples, segments };

}  // namespace llmserve
