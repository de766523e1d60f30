// What kernels read and write: views of a graph's schedule, of the arrays of all atoms, and of one thread's scratch.
#pragma once

#include "models/transformer/parameters.h"
#include "runtime/schedule.h"

namespace gaq::transformer {

constexpr int PAIR_BATCH = 4;  // pairs that are worked on together

// Record of a pair within the cutoff, floats: four weights of the table's value and four of its derivative, envelope and
// its derivative, `back`, the knot (an int), then the harmonics.
constexpr int VALUE = 0, SLOPE = 4, ENVELOPE = 8, ENVELOPE_SLOPE = 9, BACK = 10, KNOT = 11, HARMONICS = 12;

// Gradient of a pair, floats: by distance through tables, by the envelope, then by the harmonics.
constexpr int BY_DISTANCE = 0, BY_ENVELOPE = 1, BY_HARMONICS = 2;

struct Pairs {  // pairs within the cutoff, in the order of Schedule::pair
    int32_t *i, *j;
    double* vector;  // (pairs, 4): direction, distance
    float *record, *gradient;
    int record_stride, gradient_stride;
    int32_t *begin, *end;  // of each task
    int32_t* repelled;     // of each task: pairs nearer than where repulsion begins
};

struct Moments {  // of a row: mean and 1/sqrt(variance + 1e-5)
    float mean, factor;
};

struct Activations {                  // of one layer, kept for the backward pass; vectors are (atoms, M, Cp)
    float *x, *v;                     // input of the attention
    Moments *first, *second;          // of the scalars that the attention and the interaction normalize
    float *query, *key;               // unit for each head, temperature in the query (robust); plain (so3krates)
    float *query_norm, *key_norm;     // (atoms, Hp) factors that made them unit
    float *value, *mixed;             // mixed vector features in the molecule's coordinates
    double* projected;                // (atoms, M, padded_doubles(H)), the same
    float *message, *vector_message;  // weighted by attention
    float* total;                     // (atoms, Hp) denominators
    float *x2, *v2;                   // input of the interaction
    float* update_input;              // (atoms, Fp + G) of its update: scalars, normalized, and invariants
    float* products;                  // p and q, rows of 2 Cp, in the frames
    float* hidden;                    // before the activation function
    float* gates;                     // of the update, (atoms, G)
    float* weights;                   // (pairs, weight_stride) of the attention, see attention.h
    float* filters;                   // (pairs, W), kept for the backward pass if they are small, or null
};

constexpr int FRAME_TENSORS = 19;  // doubles of each atom

struct Workspace {         // arrays of all atoms
    Activations* layer;    // (T + 1,); of the last only x and v are used
    float* frames;         // (atoms, frame_stride): D^1, D^2, ...
    double* exact_frames;  // the same
    int frame_stride, weight_stride;
    double* frame_tensors;       // (atoms, FRAME_TENSORS), see frames.h
    float *gx, *gv;              // gradients of the features
    float *g_message, *g_share;  // of the scalar message; (atoms, Hp) sum over neighbours of weight times gradient
    float *g_query, *g_key, *g_value, *g_mixed, *g_projected;
    float* energy;    // (atoms,) without unit
    double* forces;   // (atoms, 3) gradients
    double* virials;  // (atoms, 9) or null
};

struct Scratch : ProductScratch {  // of one thread
    float *a, *b, *c, *d;          // rows of the blocks that use them
    float *filter, *by_filter;     // (W,) of each of a few pairs, and of one
    float* pair;                   // heads and contractions of a few pairs
};

struct Arguments {
    const Parameters* parameters;
    Schedule schedule;
    Pairs pairs;
    Workspace work;
    const double* positions;
    bool gradients;
};

// Where an atom's components of a degree begin in an array (atoms, M, width).
inline size_t vector_place(int degree, int components, size_t atom, int width) {
    return (atom * size_t(components) + size_t(first_component(degree))) * size_t(width);
}

}  // namespace gaq::transformer
