// The model as its kernels see it: plain views of aligned memory that an Arena owns. No standard containers here: kernels
// are compiled for several instruction sets, and a shared inline function could end up as code that this processor lacks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gemm/panel.h"

namespace gaq::transformer {

constexpr int MAX_DEGREE = 4;
constexpr int MAX_COMPONENTS = 24;

constexpr int padded_doubles(int doubles) { return (doubles + 7) / 8 * 8; }
constexpr int first_component(int degree) { return degree * degree - 1; }
constexpr int frame_place(int degree) {  // where D^l lies among the matrices of an atom's frame
    return degree < 2 ? 0 : frame_place(degree - 1) + (2 * degree - 1) * (2 * degree - 1);
}

// Channels padded: a feature of F channels takes Fp floats, the rest zero.
struct Shape {
    int F, C, L, M, H, T;  // scalars, vectors, max degree, components, heads, layers
    int Fp, Cp, Hp, G;     // padded; G = L Cp, gates of all degrees
    int A, W;              // padded width of the attention's part of a filter, and of a whole filter
    bool robust;
};

enum class Format : int32_t { none, components, mddq };
enum class Gradient : int32_t { geometric, plain, none };

struct Rounding {  // of the vector features of one degree
    Format format;
    Gradient gradient;
    bool aligned;
    const float *step, *inverse;  // (Cp,), and 1 / step
    float magnitude_qmax, component_qmax;
    int quantizer;
};

struct Heads {                  // which channels of a padded row belong to which head, in segments of 16
    const int32_t* first;       // (H + 1,) first segment of each head
    const int32_t* block;       // (segments,) group of 16 channels
    const float* member;        // (segments, 16) 1 where the channel is the head's, else 0
    const int32_t* of_channel;  // (padded,) head of a channel
};

struct Norm {
    const float *weight, *bias;
};

struct Layer {
    Norm first, second;
    LinearMap query, key, value, output, update_first, update_second;
    Rounding feature[MAX_DEGREE], update[MAX_DEGREE];
    LinearMap mix[MAX_DEGREE], project[MAX_DEGREE], pair[MAX_DEGREE];
    LinearMap contraction;     // only its input's step and bits; weights below
    const float* contract;     // (L H, W) weights of the contractions times their scales
    const float* temperature;  // (Hp,)
    const float* table;        // (knots + 2, W): cubic splines by log(r + bend)
};

struct Repulsion {  // of two species, Å: the network sees r from `onset`, a constant up to `inner`, and between
    double onset, inner, strength, rate;  // ... the nuclei's repulsion is switched; k Z_i Z_j in eV Å, 1/a in 1/Å
};

struct OutputBounds {  // beyond which the output of an atom levels off, within as much as `below` and `above`
    double low, below, high, above;
};

struct Parameters {
    Shape shape;
    int species, knots;
    bool cosine, frames;
    int power;                                                  // of the polynomial envelope
    double cutoff, start, bend, spacing, energy_scale, spread;  // knots are evenly spaced in log(r + bend)
    int spreading;
    const double* energy_offsets;
    const Repulsion* repulsion;  // (species, species), symmetric
    const OutputBounds* bounds;  // (species,)
    const float* own;            // (species, Fp)
    const float* other;          // (species, Fp + G)
    const float* embedding;      // (knots + 2, Fp + G) filters times envelope
    const Layer* layers;
    LinearMap hidden, last;
    Heads scalar_heads, vector_heads;
    int samples[MAX_DEGREE];  // directions from which D^l is solved
    const double* directions[MAX_DEGREE];
    const double* inverse[MAX_DEGREE];
};

}  // namespace gaq::transformer
