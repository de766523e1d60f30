// A model as the kernels see it: plain views of aligned memory that an Arena owns. No standard containers here: kernels are
// compiled for several instruction sets, and a shared inline function could end up as code that this processor lacks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gaq {

constexpr int LANES = 16;       // channels are padded to whole groups of this many, whatever the instruction set
constexpr int MAX_DEGREE = 4;
constexpr int MAX_COMPONENTS = 24;
constexpr int MOST_WHOLE_BITS = 16;  // of inputs whose products are taken in whole numbers

inline constexpr int padded(int n) { return (n + LANES - 1) / LANES * LANES; }
inline constexpr int whole_lines(int doubles) { return (doubles + 7) / 8 * 8; }
inline constexpr int first_component(int degree) { return degree * degree - 1; }
inline constexpr int frame_place(int degree) {  // where D^l lies among the matrices of an atom's frame
    return degree < 2 ? 0 : frame_place(degree - 1) + (2 * degree - 1) * (2 * degree - 1);
}

// Channels padded: a feature of F channels takes Fp floats, the rest zero.
struct Shape {
    int F, C, L, M, H, T;          // scalars, vectors, max degree, components, heads, layers
    int Fp, Cp, Hp, G;             // padded; G = L Cp, gates of all degrees
    int A, W;                      // padded width of the attention's part of a filter, and of a whole filter
    bool robust;
};

enum class Kind : int32_t { float32, nibble, byte };

// Weights of one linear map in the order in which a kernel reads them: groups of 16 outputs, then inputs.
//   float32: [out/16][in][16] floats
//   nibble:  [out/16][in/8][16] words of 8 codes + 8; code k of a group lies at nibble NIBBLE_OF[k]
//   byte:    [out/16][in/4][16] words of 4 codes + 128
// Even nibbles of a word are inputs 0-3, odd ones inputs 4-7: masking leaves the four bytes of an int8 product, and every
// other byte the pair of an int16 product.
constexpr int NIBBLE_OF[8] = {0, 2, 4, 6, 1, 3, 5, 7};

struct Panel {
    Kind kind;
    int in, out;                   // padded, of the product
    const void* data;
    bool transposed;               // codes that lie as those of a panel with `in` and `out` exchanged
};

// y = (codes(x / step) . W) scale + bias; backward is the product with the transposed weights.
struct Linear {
    Panel forward, backward;
    const float* scale;            // (out,), or null: 1
    const float* bias;             // (out,), or null: 0
    const float* step;             // (in,), or null: the input stays in float
    const float* inverse;          // (in,) 1 / step
    float qmax;
    int bits;                      // of the input; 0 in float
    int quantizer;                 // index among the counters of saturation
};

enum class Format : int32_t { none, components, mddq };
enum class Gradient : int32_t { geometric, plain, none };

struct Rounding {                  // of the vector features of one degree
    Format format;
    Gradient gradient;
    bool aligned;
    const float *step, *inverse;   // (Cp,), and 1 / step
    float magnitude_qmax, component_qmax;
    int quantizer;
};

struct Heads {                     // which channels of a padded row belong to which head, in segments of 16
    const int32_t* first;          // (H + 1,) first segment of each head
    const int32_t* block;          // (segments,) group of 16 channels
    const float* member;           // (segments, 16) 1 where the channel is the head's, else 0
    const int32_t* of_channel;     // (padded,) head of a channel
};

struct Norm {
    const float *weight, *bias;
};

struct Layer {
    Norm first, second;
    Linear query, key, value, output, expand, shrink;  // expand, shrink: the two maps of the update
    Rounding feature[MAX_DEGREE], update[MAX_DEGREE];
    Linear mix[MAX_DEGREE], project[MAX_DEGREE], pair[MAX_DEGREE];
    Linear contraction;            // only its input's step and bits; weights below
    const float* contract;         // (L H, W) weights of the contractions times their scales
    const float* temperature;      // (Hp,)
    const float* table;            // (knots + 2, W): cubic splines by log(r + bend)
};

struct Wall {                      // of two species, Å: the network sees r from `on`, a constant up to `inner`, and between
    double on, inner, strength, rate;  // ... the nuclei's repulsion is switched; k Z_i Z_j in eV Å, 1/a in 1/Å
};

struct Bounds {                    // beyond which the output of an atom levels off, within as much as `below` and `above`
    double low, below, high, above;
};

struct Model {
    Shape shape;
    int species, knots, quantizers;
    bool cosine, frames;
    int power;                     // of the polynomial envelope
    double cutoff, start, bend, spacing, energy_scale, spread;  // knots are evenly spaced in log(r + bend)
    int spreading;
    const int32_t* index_of;       // (119,) -1 for unknown
    const double* energy_offsets;
    const Wall* walls;             // (species, species), symmetric
    const Bounds* bounds;          // (species,)
    const float* own;              // (species, Fp)
    const float* other;            // (species, Fp + G)
    const float* embedding;        // (knots + 2, Fp + G) filters times envelope
    const Layer* layers;
    Linear hidden, last;
    Heads scalar_heads, vector_heads;
    int samples[MAX_DEGREE];       // directions from which D^l is solved
    const double* directions[MAX_DEGREE];
    const double* inverse[MAX_DEGREE];
};

}  // namespace gaq
