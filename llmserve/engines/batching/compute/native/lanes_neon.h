// A part of the lanes: four of them in a register of NEON, on 64-bit Arm. With its bfloat16
// instructions pairs are multiplied as they are.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace llmserve {

using Part = float32x4_t;
using Words = uint32x4_t;
using Quarter = float32x4_t;

inline constexpr int kPartLanes = 4;
inline constexpr int kRegisters = 8;  // that hold sixteen lanes each

inline Part part_broadcast(float number) { return vdupq_n_f32(number); }
inline Part part_load(const float* source) { return vld1q_f32(source); }
inline void part_store(float* target, Part lanes) { vst1q_f32(target, lanes); }

inline Part part_add(Part a, Part b) { return vaddq_f32(a, b); }
inline Part part_sub(Part a, Part b) { return vsubq_f32(a, b); }
inline Part part_mul(Part a, Part b) { return vmulq_f32(a, b); }
inline Part part_fmadd(Part a, Part b, Part c) { return vfmaq_f32(c, a, b); }
inline Part part_fmsub(Part a, Part b, Part c) { return vfmaq_f32(vnegq_f32(c), a, b); }
inline Part part_fnmadd(Part a, Part b, Part c) { return vfmsq_f32(c, a, b); }
inline Part part_max(Part a, Part b) { return vmaxq_f32(a, b); }
inline Part part_min(Part a, Part b) { return vminq_f32(a, b); }

inline Quarter quarter_sum(Part lanes) { return lanes; }
inline Part part_of_quarters(const Quarter* one) { return *one; }
inline float part_reduce_add(Part lanes) { return vaddvq_f32(lanes); }
inline float part_reduce_max(Part lanes) { return vmaxvq_f32(lanes); }
inline Part part_add_up_within(Part a, Part b, Part c, Part d) {
    return vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
}

inline Words part_bit() {
    static constexpr uint32_t each[4] = {1, 2, 4, 8};
    return vld1q_u32(each);
}
inline unsigned part_bits(Words set) { return vaddvq_u32(vandq_u32(set, part_bit())); }
inline unsigned part_at_least(Part a, Part b) { return part_bits(vcgeq_f32(a, b)); }
inline unsigned part_equal(Part a, Part b) { return part_bits(vceqq_f32(a, b)); }
inline Part part_choose(unsigned bits, Part then, Part otherwise) {
    return vbslq_f32(vtstq_u32(vdupq_n_u32(bits), part_bit()), then, otherwise);
}

inline Part part_round(Part x) { return vrndnq_f32(x); }
// y × 2^whole; 0 where that is less than the smallest normal power.
inline Part part_times_power(Part y, Part whole) {
    const Part bounded = vmaxq_f32(vminq_f32(whole, vdupq_n_f32(127.0f)), vdupq_n_f32(-127.0f));
    const int32x4_t power =
        vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(bounded), vdupq_n_s32(127)), 23);
    return vmulq_f32(y, vreinterpretq_f32_s32(power));
}
inline Part part_reciprocal_estimate(Part x) {
    const Part estimate = vrecpeq_f32(x);  // 8 bits
    return vmulq_f32(estimate, vrecpsq_f32(x, estimate));
}

inline Words words_broadcast(int32_t word) { return vdupq_n_u32(static_cast<uint32_t>(word)); }
inline Words words_load(const uint32_t* source) { return vld1q_u32(source); }
inline void words_store(uint32_t* target, Words words) { vst1q_u32(target, words); }
inline Words words_zip(const uint16_t* low, const uint16_t* high) {
    return vorrq_u32(vmovl_u16(vld1_u16(low)), vshll_n_u16(vld1_u16(high), 16));
}
inline Words words_zip_low(Words a, Words b) {
    return vreinterpretq_u32_u16(vzip1q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b)));
}
inline Words words_zip_high(Words a, Words b) {
    return vreinterpretq_u32_u16(vzip2q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b)));
}

// The lower number of each word, and the upper one.
inline Part part_even(Words words) { return vreinterpretq_f32_u32(vshlq_n_u32(words, 16)); }
inline Part part_odd(Words words) {
    return vreinterpretq_f32_u32(vandq_u32(words, vdupq_n_u32(0xffff0000)));
}
inline Part part_load_bf16(const uint16_t* source) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(source), 16));
}

#if LLMSERVE_MULTIPLIES_PAIRS

inline Part part_dot(Part sum, Words a, Words b) {
    return vbfdotq_f32(sum, vreinterpretq_bf16_u32(a), vreinterpretq_bf16_u32(b));
}
inline void part_store_bf16(uint16_t* target, Part lanes) {
    vst1_u16(target, vreinterpret_u16_bf16(vcvt_bf16_f32(lanes)));
}

#else

// To the nearest, ties to even; what is not a number stays so.
inline void part_store_bf16(uint16_t* target, Part lanes) {
    const uint32x4_t bits = vreinterpretq_u32_f32(lanes);
    const uint32x4_t even = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t sum = vaddq_u32(bits, vaddq_u32(even, vdupq_n_u32(0x7fff)));
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    vst1_u16(target, vshrn_n_u32(vbslq_u32(vceqq_f32(lanes, lanes), sum, quiet), 16));
}

#endif

inline void pause_thread() { asm volatile("yield"); }

// While it lives, this thread's denormal results are flushed to zero, as on other processors.
class FlushTiny {
  public:
    FlushTiny() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" : : "r"(before_ | (uint64_t{1} << 24)));
    }
    ~FlushTiny() { asm volatile("msr fpcr, %0" : : "r"(before_)); }
    FlushTiny(const FlushTiny&) = delete;
    FlushTiny& operator=(const FlushTiny&) = delete;

  private:
    uint64_t before_;
};

}  // namespace llmserve
