// One engine: a model on an instruction set, its threads, and a graph.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "gaq_engine.h"
#include "runtime/model.h"
#include "runtime/pair_list.h"
#include "runtime/thread_pool.h"

namespace gaq {

// The instruction set of this name, or the best of this processor for null; throws Failure(GAQ_NO_SUCH_ISA).
Isa choose_isa(const char* name);

class Engine {
public:
    Engine(const void* blob, size_t bytes, const char* isa, int threads);

    void set_graph(int64_t atoms, const int64_t* species, int64_t edges, const int64_t* centers, const int64_t* neighbours,
                   const double* offsets);
    void set_offsets(int64_t edges, const double* offsets);
    void compute(const double* positions, double* energies, double* forces, double* virials);
    gaq_facts facts() const;
    gaq_model_facts model_facts() const;
    void saturation(uint64_t* clipped, uint64_t* seen) const { model_->saturation(clipped, seen); }
    int atoms() const { return pairs_ ? pairs_->schedule().atoms : 0; }

    std::string message;  // of the last failure

private:
    void take(std::unique_ptr<PairList> pairs);

    const Isa isa_;
    ThreadPool pool_;
    std::string kind_;
    std::unique_ptr<Model> model_;
    int32_t index_of_[MAX_NUMBER + 1];  // of an atomic number among the model's species, or -1
    std::unique_ptr<PairList> pairs_;   // of the graph, or null
};

}  // namespace gaq

struct gaq_engine : gaq::Engine {
    using Engine::Engine;
    mutable std::atomic_flag busy = ATOMIC_FLAG_INIT;  // with a call
};
