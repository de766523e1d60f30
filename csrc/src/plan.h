// The order in which a graph is worked on, made once: pairs instead of directed edges, blocks of atoms, tasks of two blocks
// each, and rounds of tasks that share no atom. The order does not depend on threads, and so neither does any sum.
//
// Nor does a sum depend on where a structure lies in a batch: blocks are made of segments, ranges of atoms that no pair
// joins to others. Small ones lie within one block, where sums go in the order of pairs; a large one begins a block.
#pragma once

#include <cstdint>
#include <vector>

#include "state.h"

namespace gaq {

class Graph {
public:
    // Throws Failure for edges out of range, unknown species and too large a graph.
    Graph(const Model& model, int64_t atoms, const int64_t* species, int64_t edges, const int64_t* centers,
          const int64_t* neighbours, const double* offsets);

    Plan plan() const;

private:
    void pair_up(int64_t edges, const int64_t* centers, const int64_t* neighbours, const double* offsets);
    void divide();
    void schedule();

    int atoms_;
    std::vector<int32_t> species_, numbers_, block_, block_of_, round_;
    std::vector<Pair> pairs_;
    std::vector<double> offsets_;
    std::vector<Task> tasks_;
};

}  // namespace gaq
