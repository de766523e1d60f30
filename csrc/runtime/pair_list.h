// The order in which a graph is worked on, made once: pairs instead of directed edges, blocks of atoms, tasks of two blocks
// each, and rounds of tasks that share no atom. The order does not depend on threads, and so neither does any sum.
//
// Nor does a sum depend on where a structure lies in a batch: blocks are made of segments, ranges of atoms that no pair
// joins to others. Small ones lie within one block, where sums go in the order of pairs; a large one begins a block.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/schedule.h"

namespace gaq {

constexpr int MAX_NUMBER = 118;  // the largest atomic number

class PairList {
public:
    // `index_of` has the index of each atomic number up to MAX_NUMBER among the model's species, or -1. Throws Failure for
    // edges out of range, unknown species and too large a graph.
    PairList(const int32_t* index_of, int64_t atoms, const int64_t* species, int64_t edges, const int64_t* centers,
             const int64_t* neighbours, const double* offsets);

    // Take other offsets (edges, 3) for the same edges. False, with nothing changed, where a new list might have other
    // pairs or another order: an edge without a reverse, one that joins an atom to itself, an offset that becomes or ceases
    // to be zero, or an edge and its reverse whose offsets are no longer each other's negative.
    bool replace_offsets(const double* offsets);

    // A list of the same atoms and edges with other offsets.
    PairList with_offsets(const int32_t* index_of, const double* offsets) const;

    int64_t edges() const { return int64_t(centers_.size()); }
    Schedule schedule() const;

private:
    struct Origin {  // the edges that a pair was made of, and the place of its offset, or -1
        int32_t edge, reverse, offset;
    };

    void find_pairs(const double* offsets);
    void make_blocks();
    void make_rounds();

    int atoms_ = 0;
    std::vector<int64_t> centers_, neighbours_;
    std::vector<int32_t> species_, numbers_, block_, block_of_, round_;
    std::vector<Pair> pairs_;
    std::vector<double> offsets_;
    std::vector<Origin> origins_;  // in the order of the edges
    std::vector<Task> tasks_;
    bool paired_ = true;  // every edge has its reverse, and none joins an atom to itself
};

}  // namespace gaq
