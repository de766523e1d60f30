// Linear maps as the products see them: plain views of aligned memory that an Arena owns. No standard containers here:
// kernels are compiled for several instruction sets, and a shared inline function could end up as code that this processor
// lacks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gaq {

constexpr int LANES = 16;             // channels are padded to whole groups of this many, whatever the instruction set
constexpr int MAX_INTEGER_BITS = 16;  // of inputs whose products are taken in whole numbers

constexpr int padded(int n) { return (n + LANES - 1) / LANES * LANES; }

enum class WeightKind : int32_t { float32, nibble, byte };

// Weights of one linear map in the order in which a kernel reads them: groups of 16 outputs, then inputs.
//   float32: [out/16][in][16] floats
//   nibble:  [out/16][in/8][16] words of 8 codes + 8; code k of a group lies at nibble NIBBLE_OF[k]
//   byte:    [out/16][in/4][16] words of 4 codes + 128
// Even nibbles of a word are inputs 0-3, odd ones inputs 4-7: masking leaves the four bytes of an int8 product, and every
// other byte the pair of an int16 product.
constexpr int NIBBLE_OF[8] = {0, 2, 4, 6, 1, 3, 5, 7};

struct Panel {
    WeightKind kind;
    int in, out;  // padded, of the product
    const void* data;
    bool transposed;  // codes that lie as those of a panel with `in` and `out` exchanged
};

// y = (codes(x / step) . W) scale + bias; backward is the product with the transposed weights.
struct LinearMap {
    Panel forward, backward;
    const float* scale;    // (out,), or null: 1
    const float* bias;     // (out,), or null: 0
    const float* step;     // (in,), or null: the input stays in float
    const float* inverse;  // (in,) 1 / step
    float qmax;
    int bits;       // of the input; 0 in float
    int quantizer;  // index among the counters of saturation
};

// What the products of one thread need; arrays have room for all rows of the longest map.
struct ProductScratch {
    int8_t* narrow;  // codes of 8 bits
    int16_t* wide;   // codes of 16 bits
    int32_t* sum;    // (rows,) of the codes
    float *rows, *more;
    float* decoded;            // two groups of outputs of the longest map
    uint64_t *clipped, *seen;  // (quantizers,) values beyond the range of their codes, and all
    float not_finite;          // NaN after a value without a code, else 0
};

}  // namespace gaq
