// The kernels of this model, one set for each instruction set.
#pragma once

#include "models/transformer/arguments.h"
#include "simd/isa.h"

namespace gaq::transformer {

// Phases of atoms act on [begin, end); phases of pairs on one task.
struct Kernels {
    void (*pair_geometry)(Arguments&, int task);  // pairs.end < 0 flags atoms at one place
    void (*add_frame_tensors)(Arguments&, int task, int round);
    void (*update_frame_tensors)(Arguments&, int begin, int end, int round);
    void (*local_frames)(Arguments&, int begin, int end);
    void (*embed_species)(Arguments&, int begin, int end);
    void (*embed_neighbours)(Arguments&, int task, Scratch&);
    void (*attention_inputs)(Arguments&, int layer, int begin, int end, Scratch&);
    void (*attention)(Arguments&, int layer, int task, Scratch&);
    void (*interaction)(Arguments&, int layer, int begin, int end, Scratch&);
    void (*readout)(Arguments&, int begin, int end, Scratch&);
    void (*interaction_adjoint)(Arguments&, int layer, int begin, int end, Scratch&);
    void (*attention_adjoint)(Arguments&, int layer, int task, Scratch&);
    void (*attention_inputs_adjoint)(Arguments&, int layer, int begin, int end, Scratch&);
    void (*embed_neighbours_adjoint)(Arguments&, int task, Scratch&);
    void (*scatter_forces)(Arguments&, int task);
};

extern const Kernels scalar_kernels, avx2_kernels, avx512_kernels;

}  // namespace gaq::transformer
