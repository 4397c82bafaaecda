// What all processors of x86 have, whatever their lanes.
#pragma once

#include <immintrin.h>

namespace llmserve {

inline void pause_thread() { _mm_pause(); }

// While it lives, this thread's denormal results are flushed to zero: each would cost a hundred
// cycles and mean nothing.
class FlushTiny {
  public:
    FlushTiny() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~FlushTiny() { _mm_setcsr(before_); }
    FlushTiny(const FlushTiny&) = delete;
    FlushTiny& operator=(const FlushTiny&) = delete;

  private:
    const unsigned before_;
};

}  // namespace llmserve
