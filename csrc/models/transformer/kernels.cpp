// Compiled once for each instruction set, with -DGAQ_AVX512, -DGAQ_AVX2 or neither.
#include "models/transformer/kernels.h"

#include "models/transformer/attention_adjoint.h"
#include "models/transformer/embedding.h"
#include "models/transformer/frames.h"
#include "models/transformer/interaction.h"

namespace gaq::transformer {

const Kernels GAQ_OF_ISA(kernels) = {
    GAQ_ISA::pair_geometry,
    GAQ_ISA::add_frame_tensors,
    GAQ_ISA::update_frame_tensors,
    GAQ_ISA::local_frames,
    GAQ_ISA::embed_species,
    GAQ_ISA::embed_neighbours,
    GAQ_ISA::attention_inputs,
    GAQ_ISA::attention,
    GAQ_ISA::interaction,
    GAQ_ISA::readout,
    GAQ_ISA::interaction_adjoint,
    GAQ_ISA::attention_adjoint,
    GAQ_ISA::attention_inputs_adjoint,
    GAQ_ISA::embed_neighbours_adjoint,
    GAQ_ISA::scatter_forces,
};

}  // namespace gaq::transformer
