// Why nothing was computed.
#pragma once

#include <cstdint>

namespace llmserve {

// Python knows these by number.
enum class Failure : int32_t { none, memory, tokens, positions, slots, rows, blocks, samples };

}  // namespace llmserve
