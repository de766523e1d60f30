// What a computation reads and writes: views of a graph's plan, of the arrays of all atoms, and of one thread's scratch.
#pragma once

#include "model.h"

namespace gaq {

constexpr int BLOCK = 32;          // most atoms that are worked on together: their features stay in the second-level cache
constexpr int TOGETHER = 4;        // pairs that are worked on together

struct Pair {                      // i and j with r = x_j - x_i + offset; `back` is 0 where only j acts on i
    int32_t i, j;
    float back;
    int32_t offset;                // into Plan::offsets, or -1 for none
};

struct Task {                      // pairs between two blocks of atoms; tasks of one round share no atom
    int32_t begin, end;
};

struct Plan {                      // made once for a graph
    int atoms, pairs, blocks, tasks, rounds;
    const int32_t* species;        // (atoms,) index
    const int32_t* numbers;        // (atoms,) atomic number
    const Pair* pair;
    const double* offsets;
    const int32_t* block;          // (blocks + 1,) first atom of each
    const Task* task;              // into pair
    const int32_t* round;          // (rounds + 1,) into task
};

// Record of a pair within the cutoff, floats: four weights of the table's value and four of its derivative, envelope and its
// derivative, `back`, the knot (an int), then the harmonics.
constexpr int VALUE = 0, SLOPE = 4, ENVELOPE = 8, ENVELOPE_SLOPE = 9, BACK = 10, KNOT = 11, HARMONICS = 12;

// Gradient of a pair, floats: by distance through tables, by the envelope, then by the harmonics.
constexpr int BY_DISTANCE = 0, BY_ENVELOPE = 1, BY_HARMONICS = 2;

struct Near {                      // pairs within the cutoff, in the order of Plan::pair
    int32_t *i, *j;
    double* vector;                // (pairs, 4): direction, distance
    float *record, *gradient;
    int record_stride, gradient_stride;
    int32_t *begin, *end;          // of each task
    int32_t* close;                // of each task: pairs nearer than their wall begins
};

struct Moments {                   // of a row: mean and 1/sqrt(variance + 1e-5)
    float mean, factor;
};

struct Activations {               // of one layer, kept for the backward pass; vectors are (atoms, M, Cp)
    float *x, *v;                  // input of the attention
    Moments *first, *second;       // of the scalars that the attention and the interaction normalize
    float *query, *key;            // unit for each head, temperature in the query (robust); plain (so3krates)
    float *query_norm, *key_norm;  // (atoms, Hp) factors that made them unit
    float *value, *mixed;          // mixed vector features in the molecule's coordinates
    double* projected;             // (atoms, M, whole_lines(H)), the same
    float *message, *vector_message;   // weighted by attention
    float *total;                  // (atoms, Hp) denominators
    float *x2, *v2;                // input of the interaction
    float *joined;                 // (atoms, Fp + G) of its update: scalars, normalized, and invariants
    float *products;               // p and q, rows of 2 Cp, in the frames
    float *hidden;                 // before the activation function
    float *gates;                  // of the update, (atoms, G)
    float *weights;                // (pairs, weight_stride) of the attention, see attend.h
    float* filters;                // (pairs, W), kept for the backward pass if they are small, or null
};

struct State {
    Activations* layer;            // (T + 1,); of the last only x and v are used
    float* frames;                 // (atoms, frame_stride): D^1, D^2, ...
    double* exact_frames;          // the same
    int frame_stride, weight_stride;
    double* surroundings;          // (2, atoms, 6) and (atoms,) totals, for the frames
    float *gx, *gv;                // gradients of the features
    float *g_message, *g_share;    // of the scalar message; (atoms, Hp) sum over neighbours of weight times gradient
    float *g_query, *g_key, *g_value, *g_mixed, *g_projected;
    float *energy;                 // (atoms,) without unit
    double* forces;                // (atoms, 3) gradients
    double* virials;               // (atoms, 9) or null
};

struct Scratch {                   // of one thread
    int8_t* narrow;
    int16_t* wide;
    int32_t* sum;
    float *rows, *more, *decoded;  // inside of linear maps
    float *a, *b, *c, *d;          // rows of the blocks that use them
    float *filter, *by_filter;     // (W,) of each of a few pairs, and of one
    float* small;                  // heads and contractions of a few pairs
    uint64_t *clipped, *seen;
    float broken;                  // NaN after a value without a code, else 0
};

struct Job {
    const Model* model;
    Plan plan;
    Near near;
    State state;
    const double* positions;
    bool gradients;
};

// Where an atom's components of a degree begin in an array (atoms, M, width).
inline size_t vector_place(int degree, int components, size_t atom, int width) {
    return (atom * size_t(components) + size_t(first_component(degree))) * size_t(width);
}

// One kernel set for each instruction set. Phases of atoms act on [begin, end); phases of pairs on one task.
struct Kernels {
    const char* name;
    void (*near_pairs)(Job&, int task);  // near.end < 0 flags atoms at one place
    void (*surround)(Job&, int task, int round);
    void (*settle)(Job&, int begin, int end, int round);
    void (*orient)(Job&, int begin, int end);
    void (*embed_start)(Job&, int begin, int end);
    void (*embed)(Job&, int task, Scratch&);
    void (*prepare)(Job&, int layer, int begin, int end, Scratch&);
    void (*attend)(Job&, int layer, int task, Scratch&);
    void (*finish)(Job&, int layer, int begin, int end, Scratch&);
    void (*readout)(Job&, int begin, int end, Scratch&);
    void (*finish_adjoint)(Job&, int layer, int begin, int end, Scratch&);
    void (*attend_adjoint)(Job&, int layer, int task, Scratch&);
    void (*prepare_adjoint)(Job&, int layer, int begin, int end, Scratch&);
    void (*embed_adjoint)(Job&, int task, Scratch&);
    void (*push)(Job&, int task);
    bool (*works)();
    // Do as many products (0 float32, 1 int16, 2 int8), or read as much memory (3), as possible; returns operations or bytes.
    double (*burn)(int kind, int64_t repeats, const float* memory, size_t count);
};

extern const Kernels scalar_kernels, avx2_kernels, avx512_kernels;

}  // namespace gaq
