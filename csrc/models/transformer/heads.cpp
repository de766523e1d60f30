#include "models/transformer/heads.h"

#include <algorithm>

namespace gaq::transformer {

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

}  // namespace gaq::transformer
