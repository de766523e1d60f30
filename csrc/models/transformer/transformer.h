// The transformer of gaq.models.transformer on one instruction set: its memory, and the order of its phases.
#pragma once

#include <vector>

#include "models/transformer/kernels.h"
#include "runtime/model.h"
#include "runtime/phases.h"
#include "simd/arena.h"

namespace gaq::transformer {

std::unique_ptr<Model> make(const Blob& blob, Isa isa, ThreadPool& pool);

class Transformer : public Model {
public:
    Transformer(const Blob& blob, Isa isa, ThreadPool& pool);

    const ModelFacts& facts() const override { return facts_; }
    void set_graph(const Schedule& schedule) override;
    void compute(const double* positions, double* energies, double* forces, double* virials) override;
    size_t workspace_bytes() const override { return workspace_.bytes() + scratch_memory_.bytes(); }
    uint64_t pairs() const override;
    void saturation(uint64_t* clipped, uint64_t* seen) const override;

private:
    Scratch scratch();
    void allocate(int atoms, int pairs, int tasks);
    void allocate_pairs(int pairs, int tasks);
    void allocate_layer(Activations& layer, size_t atoms, size_t pairs);
    void forward(const Phases& phases);
    void find_frames(const Phases& phases);
    void backward(const Phases& phases);

    const Kernels& kernels_;
    ThreadPool& pool_;
    ModelFacts facts_;
    Arena parameter_memory_, workspace_, scratch_memory_;
    Parameters parameters_{};
    Arguments args_{};
    std::vector<Activations> layers_;
    std::vector<Scratch> scratch_;  // of each thread
    std::vector<double> gradient_;  // for virials without forces
    int atom_room_ = 0, pair_room_ = 0, task_room_ = 0;
};

}  // namespace gaq::transformer
