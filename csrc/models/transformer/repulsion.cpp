#include "models/transformer/repulsion.h"

#include <cmath>

namespace gaq::transformer {
namespace {

// V(r), eV, and its slope: (1 - t³ (10 - 15 t + 6 t²)) k Z_i Z_j / r Σ_m c_m exp(-b_m r / a), t from 0 at `inner` to 1 at
// `on`. Source: Ziegler, Biersack and Littmark, The Stopping and Range of Ions in Solids (1985).
double potential(const Repulsion& repulsion, double r, double* slope) {
    static const double c[4] = {0.18175, 0.50986, 0.28022, 0.02817}, b[4] = {3.19980, 0.94229, 0.40290, 0.20162};
    double screening = 0.0, screening_slope = 0.0;
    for (int m = 0; m < 4; ++m) {
        const double term = c[m] * std::exp(-b[m] * repulsion.rate * r);
        screening += term;
        screening_slope -= b[m] * repulsion.rate * term;
    }
    const double width = repulsion.onset - repulsion.inner, t = r > repulsion.inner ? (r - repulsion.inner) / width : 0.0;
    const double off = 1.0 - t * t * t * (10.0 - t * (15.0 - 6.0 * t));
    const double off_slope = -30.0 * (t * t) * (1.0 - t) * (1.0 - t) / width;
    const double whole = repulsion.strength / r * screening;
    *slope = off_slope * whole + off * (repulsion.strength / r * screening_slope - whole / r);
    return off * whole;
}

}  // namespace

void add_repulsion(const Arguments& args, double* energies, double* forces, double* virials) {
    const Pairs& pairs = args.pairs;
    for (int task = 0; task < args.schedule.tasks; ++task) {
        if (!pairs.repelled[task]) continue;
        for (int p = pairs.begin[task]; p < pairs.end[task]; ++p) {
            const size_t i = size_t(pairs.i[p]), j = size_t(pairs.j[p]);
            const double *u = pairs.vector + 4 * size_t(p), r = u[3];
            const Repulsion& repulsion =
                args.parameters->repulsion[args.schedule.species[i] * args.parameters->species + args.schedule.species[j]];
            if (!(r < repulsion.onset)) continue;
            double slope;
            const double back = pairs.record[size_t(p) * pairs.record_stride + BACK],
                         half = 0.5 * potential(repulsion, r, &slope);
            if (energies) energies[i] += half, energies[j] += back * half;
            const double along = 0.5 * (1.0 + back) * slope;
            for (int k = 0; forces && k < 3; ++k) forces[3 * i + k] += along * u[k], forces[3 * j + k] -= along * u[k];
            for (int k = 0; virials && k < 9; ++k) virials[9 * i + k] += r * along * u[k / 3] * u[k % 3];
        }
    }
}

}  // namespace gaq::transformer
