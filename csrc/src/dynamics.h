// Molecular dynamics around an engine; see gaq_engine_run in the header.
#pragma once

#include "engine.h"
#include "gaq_engine.h"

namespace gaq {

void run(Engine& engine, gaq_dynamics& dynamics, int64_t steps, const double* masses, const int32_t* batch,
         int32_t structures, const double* reference, double* positions, double* velocities, double* forces,
         double* potential, double* kinetic);

}  // namespace gaq
