// Molecular dynamics around an engine; see gaq_engine_run in the header.
#pragma once

#include "gaq_engine.h"
#include "runtime/engine.h"

namespace gaq {

struct MovingAtoms {       // arrays of the caller
    const double* masses;  // (atoms,)
    const int32_t* batch;  // (atoms,) structure of each
    int32_t structures;
    const double* reference;                  // (atoms, 3) positions of the neighbour list
    double *positions, *velocities, *forces;  // (atoms, 3)
    double *potential, *kinetic;              // (structures,)
};

void run(Engine& engine, gaq_dynamics& dynamics, int64_t steps, const MovingAtoms& atoms);

}  // namespace gaq
