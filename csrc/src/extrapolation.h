// What the network is asked and believed beyond its training data; as gaq.models.transformer.extrapolation.
#pragma once

#include "simd.h"
#include "state.h"

namespace gaq {
namespace GAQ_ISA {

GAQ_INLINE const Wall& wall_of(const Job& job, int i, int j) {
    return job.model->walls[job.plan.species[i] * job.model->species + job.plan.species[j]];
}

// The distance that the network sees of a pair at r, and its slope by r: a constant up to `inner`, r itself from `on`.
GAQ_INLINE double seen_distance(const Wall& wall, double r, double* slope) {
    *slope = 1.0;
    if (!(r < wall.on)) return r;
    const double width = wall.on - wall.inner, t = r > wall.inner ? (r - wall.inner) / width : 0.0;
    *slope = t * t * t * (10.0 - t * (15.0 - 6.0 * t));
    return 0.5 * (wall.on + wall.inner) + width * (t * t) * (t * t) * (2.5 - t * (3.0 - t));
}

// The output of an atom, which levels off beyond the bounds of its species, and its slope; what is not finite stays so.
GAQ_INLINE float levelled(const Bounds& b, float output, float* slope) {
    const double x = output;
    *slope = 1.0f;
    if (!(x < b.low || x > b.high) || !(x - x == 0.0)) return output;
    const bool up = x > b.high;
    const double width = 2.0 * (up ? b.above : b.below), beyond = (up ? x - b.high : b.low - x) / width;
    const double t = beyond < 1.0 ? beyond : 1.0, rise = width * (t - (t * t) * (t * t) * (2.5 - t * (3.0 - t)));
    *slope = float(1.0 - t * t * t * (10.0 - t * (15.0 - 6.0 * t)));
    return float(up ? b.high + rise : b.low - rise);
}

}  // namespace GAQ_ISA
}  // namespace gaq
