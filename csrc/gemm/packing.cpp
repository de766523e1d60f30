#include "gemm/packing.h"

#include <algorithm>
#include <utility>

namespace gaq {
namespace {

// Call set(padded output, padded input, value) for every weight.
template <class T, class Set>
void scatter(const T* weight, const Places& out, const Places& in, Set set) {
    for (size_t o = 0; o < out.size(); ++o)
        for (size_t i = 0; i < in.size(); ++i) set(out[o], in[i], weight[o * in.size() + i]);
}

}  // namespace

Panel float_panel(Arena& arena, const float* weight, const Places& out, const Places& in, int out_width, int in_width,
                  bool transposed) {
    if (transposed) std::swap(out_width, in_width);
    float* data = arena.take<float>(size_t(out_width) * in_width);
    scatter(weight, out, in, [&](int o, int i, float value) {
        if (transposed) std::swap(o, i);
        data[(size_t(o / LANES) * in_width + i) * LANES + o % LANES] = value;
    });
    return {WeightKind::float32, in_width, out_width, data, false};
}

Panel code_panel(Arena& arena, const int8_t* codes, int bits, const Places& out, const Places& in, int out_width,
                 int in_width) {
    const bool nibble = bits <= 4;
    const int group = nibble ? 8 : 4, width = nibble ? 4 : 8, zero = nibble ? 8 : 128;
    const size_t words = size_t(out_width) * in_width / group;
    uint32_t* data = arena.take<uint32_t>(words);
    for (size_t w = 0; w < words; ++w) data[w] = nibble ? 0x88888888u : 0x80808080u;  // padding has code 0
    scatter(codes, out, in, [&](int o, int i, int8_t code) {
        uint32_t& word = data[(size_t(o / LANES) * (in_width / group) + i / group) * LANES + o % LANES];
        const int place = nibble ? NIBBLE_OF[i % 8] : i % 4;
        const uint32_t mask = (nibble ? 15u : 255u) << (width * place);
        word = (word & ~mask) | (uint32_t(code + zero) << (width * place));
    });
    return {nibble ? WeightKind::nibble : WeightKind::byte, in_width, out_width, data, false};
}

Panel transposed(const Panel& codes) { return {codes.kind, codes.out, codes.in, codes.data, true}; }

size_t panel_bytes(const Panel& panel) {
    if (panel.transposed) return 0;  // it is another's
    const size_t weights = size_t(panel.in) * panel.out;
    switch (panel.kind) {
        case WeightKind::float32: return 4 * weights;
        case WeightKind::nibble: return weights / 2;
        case WeightKind::byte: return weights;
    }
    return 0;
}

}  // namespace gaq
