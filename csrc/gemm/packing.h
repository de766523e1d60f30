// Weights laid out as panels.
#pragma once

#include <vector>

#include "gemm/panel.h"
#include "simd/arena.h"

namespace gaq {

// Where the channels of an unpadded row lie in the padded one.
using Places = std::vector<int>;

// Weights, unpadded and row-major (out, in), as a panel; or as that of the transposed product.
Panel float_panel(Arena& arena, const float* weight, const Places& out, const Places& in, int out_width, int in_width,
                  bool transposed);

Panel code_panel(Arena& arena, const int8_t* codes, int bits, const Places& out, const Places& in, int out_width,
                 int in_width);

// The transposed product with a panel of codes, which are not copied: they are transposed as they are decoded.
Panel transposed(const Panel& codes);

size_t panel_bytes(const Panel& panel);

}  // namespace gaq
