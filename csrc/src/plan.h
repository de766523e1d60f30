// The order in which a graph is worked on, made once: pairs instead of directed edges, tasks of two blocks of atoms each,
// and rounds of tasks that share no atom. The order does not depend on threads, and so neither does any sum.
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
    void schedule();

    int atoms_;
    std::vector<int32_t> species_, numbers_, round_;
    std::vector<Pair> pairs_;
    std::vector<double> offsets_;
    std::vector<Task> tasks_;
};

}  // namespace gaq
