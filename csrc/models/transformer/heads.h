// Which channels belong to which attention head.
#pragma once

#include "gemm/packing.h"
#include "models/transformer/parameters.h"

namespace gaq::transformer {

// Membership of channels in heads: channel c of n, at places[c], belongs to head c * heads / n.
Heads head_map(Arena& arena, const Places& places, int width, int heads);

}  // namespace gaq::transformer
