// The order in which a graph is worked on, as kernels see it: plain views of what PairList holds.
#pragma once

#include <cstdint>

namespace gaq {

constexpr int ATOM_BLOCK = 32;  // most atoms that are worked on together: their features stay in the second-level cache

struct Pair {  // i and j with r = x_j - x_i + offset; `back` is 0 where only j acts on i
    int32_t i, j;
    float back;
    int32_t offset;  // into Schedule::offsets, or -1 for none
};

struct Task {  // pairs between two blocks of atoms; tasks of one round share no atom
    int32_t begin, end;
};

struct Schedule {  // made once for a graph
    int atoms, pairs, blocks, tasks, rounds;
    const int32_t* species;  // (atoms,) index among the model's
    const int32_t* numbers;  // (atoms,) atomic number
    const Pair* pair;
    const double* offsets;
    const int32_t* block;  // (blocks + 1,) first atom of each
    const Task* task;      // into pair
    const int32_t* round;  // (rounds + 1,) into task
};

}  // namespace gaq
