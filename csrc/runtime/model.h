// What the runtime knows of a model: facts, and an object that computes it on one instruction set. Each kind of model is a
// folder beside this one, and a line in models/kinds.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/blob.h"
#include "runtime/schedule.h"
#include "runtime/thread_pool.h"
#include "simd/isa.h"

namespace gaq {

struct ModelFacts {
    double cutoff = 0.0;           // Å
    int hops = 0;                  // an atom's energy depends on atoms up to hops * cutoff away
    int rounding_hops = 0;         // ... and on those up to rounding_hops * cutoff by how values are rounded
    std::vector<int32_t> species;  // atomic numbers; their order is that of Schedule::species
    bool takes_charge = false, takes_spin = false;
    int quantizers = 0;
    size_t weight_bytes = 0, table_bytes = 0;
};

class Model {
public:
    Model() = default;
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;
    virtual ~Model() = default;

    virtual const ModelFacts& facts() const = 0;

    // Take a graph, whose views stay as they are until the next one is set; a failure leaves none.
    virtual void set_graph(const Schedule& schedule) = 0;

    // Energies (atoms,), forces (atoms, 3) and virials (atoms, 9) of the graph at positions (atoms, 3), as
    // gaq_engine_compute of the header; each may be null. Throws Failure.
    virtual void compute(const double* positions, double* energies, double* forces, double* virials) = 0;

    virtual size_t workspace_bytes() const = 0;
    virtual uint64_t pairs() const = 0;  // within the cutoff at the last compute
    virtual void saturation(uint64_t* clipped, uint64_t* seen) const = 0;
};

// The model of a blob, from the table of kinds; throws Failure(GAQ_BAD_BLOB). The blob is needed for the call only, the
// pool as long as the model lives.
std::unique_ptr<Model> make_model(const Blob& blob, Isa isa, ThreadPool& pool);

}  // namespace gaq
