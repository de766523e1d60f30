// What the network is asked and believed beyond its training data; as gaq.models.transformer.extrapolation.
#pragma once

#include "models/transformer/arguments.h"
#include "simd/vector.h"

namespace gaq::transformer::GAQ_ISA {

using namespace gaq::GAQ_ISA;  // NOLINT: kernels are written in the vectors of their instruction set

GAQ_INLINE const Repulsion& repulsion_of(const Arguments& args, int i, int j) {
    return args.parameters->repulsion[args.schedule.species[i] * args.parameters->species + args.schedule.species[j]];
}

// The distance that the network sees of a pair at r, and its slope by r: a constant up to `inner`, r itself from `on`.
GAQ_INLINE double seen_distance(const Repulsion& repulsion, double r, double* slope) {
    *slope = 1.0;
    if (!(r < repulsion.onset)) return r;
    const double width = repulsion.onset - repulsion.inner, t = r > repulsion.inner ? (r - repulsion.inner) / width : 0.0;
    *slope = t * t * t * (10.0 - t * (15.0 - 6.0 * t));
    return 0.5 * (repulsion.onset + repulsion.inner) + width * (t * t) * (t * t) * (2.5 - t * (3.0 - t));
}

// The output of an atom, which levels off beyond the bounds of its species, and its slope; what is not finite stays so.
GAQ_INLINE float levelled(const OutputBounds& b, float output, float* slope) {
    const double x = output;
    *slope = 1.0f;
    if (!(x < b.low || x > b.high) || !(x - x == 0.0)) return output;
    const bool up = x > b.high;
    const double width = 2.0 * (up ? b.above : b.below), beyond = (up ? x - b.high : b.low - x) / width;
    const double t = beyond < 1.0 ? beyond : 1.0, rise = width * (t - (t * t) * (t * t) * (2.5 - t * (3.0 - t)));
    *slope = float(1.0 - t * t * t * (10.0 - t * (15.0 - 6.0 * t)));
    return float(up ? b.high + rise : b.low - rise);
}

}  // namespace gaq::transformer::GAQ_ISA
