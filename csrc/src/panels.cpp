#include "panels.h"

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
    return {Kind::float32, in_width, out_width, data, false};
}

Panel code_panel(Arena& arena, const int8_t* codes, int bits, const Places& out, const Places& in, int out_width, int in_width) {
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
    return {nibble ? Kind::nibble : Kind::byte, in_width, out_width, data, false};
}

Panel transposed(const Panel& codes) { return {codes.kind, codes.out, codes.in, codes.data, true}; }

size_t panel_bytes(const Panel& panel) {
    if (panel.transposed) return 0;  // it is another's
    const size_t weights = size_t(panel.in) * panel.out;
    switch (panel.kind) {
        case Kind::float32: return 4 * weights;
        case Kind::nibble: return weights / 2;
        case Kind::byte: return weights;
    }
    return 0;
}

Heads head_map(Arena& arena, const Places& places, int width, int heads) {
    const int channels = int(places.size()), blocks = width / LANES;
    int32_t* of_channel = arena.take<int32_t>(width);
    int32_t* first = arena.take<int32_t>(heads + 1);
    std::vector<float> members;
    std::vector<int32_t> block_of;
    for (int h = 0; h < heads; ++h) {
        for (int b = 0; b < blocks; ++b) {
            float member[LANES] = {};
            bool any = false;
            for (int c = 0; c < channels; ++c)
                if (places[c] / LANES == b && int(int64_t(c) * heads / channels) == h) {
                    member[places[c] % LANES] = 1.0f;
                    of_channel[places[c]] = h;
                    any = true;
                }
            if (!any) continue;
            members.insert(members.end(), member, member + LANES);
            block_of.push_back(b);
        }
        first[h + 1] = int32_t(block_of.size());
    }
    float* member = arena.take<float>(members.size());
    int32_t* block = arena.take<int32_t>(block_of.size());
    std::copy(members.begin(), members.end(), member);
    std::copy(block_of.begin(), block_of.end(), block);
    return {first, block, member, of_channel};
}

}  // namespace gaq
