// What Python calls, through ctypes: plain C, so that no header of Python or torch is needed.

#include <omp.h>

#include <new>

#include "sampling.h"
#include "decoder.h"
#include "linear.h"
#include "paged_attention.h"

using namespace llmserve;

extern "C" {

int32_t llmserve_has_tiles() { return request_tiles() ? 1 : 0; }

int64_t llmserve_panel_size(int64_t depth) { return packed_depth(depth) * kLanes; }

// Packs (rows, depth) into the panels first, first + step, ...; a partly filled panel gets zeros.
void llmserve_pack(const bf16* weight, int64_t rows, int64_t depth, bf16* panels, int64_t first,
                   int64_t step, int64_t threads) {
    const int64_t size = packed_depth(depth) * kLanes;
#pragma omp parallel for num_threads(static_cast<int>(threads))
    for (int64_t panel = 0; panel < (rows + kLanes - 1) / kLanes; ++panel) {
        const int64_t row = panel * kLanes;
        pack_panel(weight + row * depth, std::min(kLanes, rows - row), depth, depth,
                   panels + (first + panel * step) * size);
    }
}

// c (rows, 16·panels) float32 = a × panels; a is in tiles, and both have room for rows up to a
// multiple of 16.
void llmserve_multiply(int32_t tiles, const bf16* a, int64_t rows, const bf16* weight,
                       int64_t panels, int64_t depth, float* c) {
    const TileScope scope(tiles != 0);
    multiply(tiles != 0, a, rows, weight, panels, packed_depth(depth), c, panels * kLanes);
}

void* llmserve_decoder_create(const Shape* shape, const Layer* layers) {
    try {
        return new Decoder(*shape, layers);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void llmserve_decoder_destroy(void* decoder) { delete static_cast<Decoder*>(decoder); }

// Returns a `Failure`; after anything but 0 nothing was computed.
int32_t llmserve_decoder_step(void* handle, const Step* step) {
    try {
        Decoder& decoder = *static_cast<Decoder*>(handle);
        const Failure failure = decoder.check(*step);
        if (failure == Failure::none) decoder.step(*step);
        return static_cast<int32_t>(failure);
    } catch (const std::bad_alloc&) {
        return static_cast<int32_t>(Failure::memory);
    }
}

void* llmserve_linear_workspace_create() { return new (std::nothrow) LinearWorkspace(); }

void llmserve_linear_workspace_destroy(void* workspace) {
    delete static_cast<LinearWorkspace*>(workspace);
}

// out (rows, columns) = x (rows, depth) × weight + bias, in bfloat16; returns a `Failure`.
int32_t llmserve_linear(void* workspace, const Linear* layer, const bf16* x, int64_t rows,
                        bf16* out, int32_t tiles, int64_t threads) {
    try {
        static_cast<LinearWorkspace*>(workspace)->run(*layer, x, rows, out, tiles != 0,
                                                      static_cast<int>(threads));
        return static_cast<int32_t>(Failure::none);
    } catch (const std::bad_alloc&) {
        return static_cast<int32_t>(Failure::memory);
    }
}

void* llmserve_attention_workspace_create() { return new (std::nothrow) AttentionWorkspace(); }

void llmserve_attention_workspace_destroy(void* workspace) {
    delete static_cast<AttentionWorkspace*>(workspace);
}

// Returns a `Failure`; after anything but 0 nothing was computed.
int32_t llmserve_attend(void* workspace, const AttentionCall* call) {
    try {
        return static_cast<int32_t>(static_cast<AttentionWorkspace*>(workspace)->run(*call));
    } catch (const std::bad_alloc&) {
        return static_cast<int32_t>(Failure::memory);
    }
}

// Chooses a token for each row of logits (rows, vocab), or `kNoToken`. `scratch` has room for one
// row per thread, each up to a multiple of 16 numbers.
void llmserve_sample(const float* logits, int64_t rows, int64_t vocab, const SamplingParams* params,
                     float* scratch, int64_t threads, int64_t* tokens) {
    const int64_t room = round_up(vocab, kLanes);
    // As many threads as the decoder has: OpenMP would end those that a smaller team leaves out.
#pragma omp parallel for schedule(dynamic) num_threads(static_cast<int>(threads)) if (rows > 1)
    for (int64_t row = 0; row < rows; ++row) {
        const FlushTiny flush;
        Row it(logits + row * vocab, vocab, scratch + omp_get_thread_num() * room);
        tokens[row] = it.sample(params[row]);
    }
}

}  // extern "C"
