// The kernels of this model, one set for each instruction set.
#pragma once

#include "models/transformer/job.h"
#include "simd/isa.h"

namespace gaq::transformer {

// Phases of atoms act on [begin, end); phases of pairs on one task.
struct Kernels {
    void (*pair_geometry)(Job&, int task);  // pairs.end < 0 flags atoms at one place
    void (*add_frame_tensors)(Job&, int task, int round);
    void (*update_frame_tensors)(Job&, int begin, int end, int round);
    void (*local_frames)(Job&, int begin, int end);
    void (*embed_species)(Job&, int begin, int end);
    void (*embed_neighbours)(Job&, int task, Scratch&);
    void (*attention_inputs)(Job&, int layer, int begin, int end, Scratch&);
    void (*attention)(Job&, int layer, int task, Scratch&);
    void (*interaction)(Job&, int layer, int begin, int end, Scratch&);
    void (*readout)(Job&, int begin, int end, Scratch&);
    void (*interaction_adjoint)(Job&, int layer, int begin, int end, Scratch&);
    void (*attention_adjoint)(Job&, int layer, int task, Scratch&);
    void (*attention_inputs_adjoint)(Job&, int layer, int begin, int end, Scratch&);
    void (*embed_neighbours_adjoint)(Job&, int task, Scratch&);
    void (*scatter_forces)(Job&, int task);
};

extern const Kernels scalar_kernels, avx2_kernels, avx512_kernels;

}  // namespace gaq::transformer
