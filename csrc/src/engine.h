// One engine: a model, a graph, and the order of the phases.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "arena.h"
#include "crew.h"
#include "gaq_engine.h"
#include "model.h"
#include "plan.h"
#include "reader.h"
#include "state.h"

namespace gaq {

// The kernels of this name, or the best of this processor for null; throws Failure(GAQ_NO_SUCH_ISA).
const Kernels& choose_kernels(const char* name);

class Engine {
public:
    Engine(const void* blob, size_t bytes, const char* isa, int threads);

    void set_graph(int64_t atoms, const int64_t* species, int64_t edges, const int64_t* centers, const int64_t* neighbours,
                   const double* offsets);
    void compute(const double* positions, double* energies, double* forces, double* virials);
    gaq_facts facts() const;
    void saturation(uint64_t* clipped, uint64_t* seen) const;
    int atoms() const { return graph_ ? job_.plan.atoms : 0; }

    std::string message;           // of the last failure

private:
    void allocate(int atoms, int pairs, int tasks);
    Scratch scratch();
    template <class Phase> void over_atoms(const Phase& phase);
    template <class Phase> void over_pairs(const Phase& phase);
    void forward();
    void backward();

    const Kernels& kernels_;
    Arena model_memory_, workspace_, scratch_memory_;
    Sizes sizes_;
    Model model_{};
    Crew crew_;
    std::unique_ptr<Graph> graph_;
    Job job_{};
    std::vector<Activations> layers_;
    std::vector<Scratch> scratch_;
    std::vector<double> gradient_;
    int atom_room_ = 0, pair_room_ = 0, task_room_ = 0;
    bool alone_ = true;
};

}  // namespace gaq

struct gaq_engine : gaq::Engine {
    using Engine::Engine;
    mutable std::atomic_flag busy = ATOMIC_FLAG_INIT;  // with a call
};
