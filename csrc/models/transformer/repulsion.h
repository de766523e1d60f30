// The screened repulsion of nuclei that are nearer than training saw them, in double precision beside the network.
#pragma once

#include "models/transformer/arguments.h"

namespace gaq::transformer {

// Add the repulsion of the pairs of the last forward pass to energies (atoms,), forces (atoms, 3) and virials (atoms, 9);
// each may be null.
void add_repulsion(const Arguments& args, double* energies, double* forces, double* virials);

}  // namespace gaq::transformer
