// Distances, envelopes, harmonics and local frames, in double precision and rounded to float last, so that the invariants
// of a pair keep their bits when the molecule turns; and the way back, from gradients of these to forces.
#pragma once

#include "models/transformer/extrapolation.h"

namespace gaq::transformer::GAQ_ISA {

// A number with its derivatives by three variables.
struct Dual {
    double v, x, y, z;
};
GAQ_INLINE Dual operator+(Dual a, Dual b) { return {a.v + b.v, a.x + b.x, a.y + b.y, a.z + b.z}; }
GAQ_INLINE Dual operator-(Dual a, Dual b) { return {a.v - b.v, a.x - b.x, a.y - b.y, a.z - b.z}; }
GAQ_INLINE Dual operator-(Dual a, double b) { return {a.v - b, a.x, a.y, a.z}; }
GAQ_INLINE Dual operator+(Dual a, double b) { return {a.v + b, a.x, a.y, a.z}; }
GAQ_INLINE Dual operator*(double a, Dual b) { return {a * b.v, a * b.x, a * b.y, a * b.z}; }
GAQ_INLINE Dual operator*(Dual a, Dual b) {
    return {a.v * b.v, a.v * b.x + a.x * b.v, a.v * b.y + a.y * b.v, a.v * b.z + a.z * b.v};
}

// Real spherical harmonics of degrees 1..L, |Y^l| = 1 for unit vectors, in e3nn's order; as gaq.so3.harmonics.
template <class T>
GAQ_INLINE void harmonics(T y, T z, T x, int L, T* out) {  // textbook axes: the polar axis z is e3nn's y
    out[0] = y, out[1] = z, out[2] = x;
    if (L < 2) return;
    const double r3 = 1.7320508075688772;
    const T xx = x * x, yy = y * y, zz = z * z;
    out[3] = r3 * (x * y), out[4] = r3 * (y * z), out[5] = 1.5 * zz - 0.5, out[6] = r3 * (x * z);
    out[7] = (r3 / 2) * (xx - yy);
    if (L < 3) return;
    const double a = 0.7905694150420949, b = 3.872983346207417, c = 0.6123724356957945;
    out[8] = a * (y * (3.0 * xx - yy)), out[9] = b * (x * (y * z)), out[10] = c * (y * (5.0 * zz - 1.0));
    out[11] = 0.5 * (z * (5.0 * zz - 3.0)), out[12] = c * (x * (5.0 * zz - 1.0));
    out[13] = (b / 2) * (z * (xx - yy)), out[14] = a * (x * (xx - 3.0 * yy));
    if (L < 4) return;
    const double d = 2.958039891549808, e = 2.091650066335189, f = 1.118033988749895, g = 0.7905694150420949;
    out[15] = d * (x * (y * (xx - yy))), out[16] = e * (y * (z * (3.0 * xx - yy))),
    out[17] = f * (x * (y * (7.0 * zz - 1.0)));
    out[18] = g * (y * (z * (7.0 * zz - 3.0))), out[19] = 0.125 * (35.0 * (zz * zz) - 30.0 * zz + 3.0);
    out[20] = g * (x * (z * (7.0 * zz - 3.0))), out[21] = (f / 2) * ((xx - yy) * (7.0 * zz - 1.0));
    out[22] = e * (x * (z * (xx - 3.0 * yy))), out[23] = (d / 4) * (xx * xx - 6.0 * (xx * yy) + yy * yy);
}

GAQ_INLINE double envelope(const Parameters& m, double r, double* slope) {
    if (m.cosine) {
        const double k = 3.14159265358979323846 / m.cutoff;
        *slope = -0.5 * k * __builtin_sin(r * k);
        return 0.5 * (1.0 + __builtin_cos(r * k));
    }
    const double p = m.power, t = r / m.cutoff, a = 0.5 * (p + 1) * (p + 2), b = p * (p + 2), c = 0.5 * p * (p + 1);
    double power = 1.0;  // t^(p-1)
    for (int k = 1; k < m.power; ++k) power *= t;
    *slope = -power * (a * p - t * (b * (p + 1) - t * (c * (p + 2)))) / m.cutoff;
    return 1.0 - power * t * (a - t * (b - t * c));
}

// Weights of four coefficients of a cubic spline, for its value and its derivative by r at t in [0, 1] between two knots;
// `spacing` is the knots' distance in r that the local slope of the table's variable makes it, h dr/ds.
GAQ_INLINE void spline(double t, double spacing, float* value, float* slope) {
    const double u = 1 - t, s = 0.5 / spacing;
    value[0] = float(u * u * u / 6);
    value[1] = float((4 - 3 * t * t * (1 + u)) / 6);
    value[2] = float((4 - 3 * u * u * (1 + t)) / 6);
    value[3] = float(t * t * t / 6);
    slope[0] = float(-s * u * u);
    slope[1] = float(-s * t * (4 - 3 * t));
    slope[2] = float(s * u * (4 - 3 * u));
    slope[3] = float(s * t * t);
}

inline void pair_geometry(Arguments& args, int task) {
    const Parameters& m = *args.parameters;
    const Schedule& schedule = args.schedule;
    Pairs& pairs = args.pairs;
    const double origin = __builtin_log(m.start + m.bend);
    int n = schedule.task[task].begin, close = 0;
    pairs.begin[task] = n;
    for (int p = n; p < schedule.task[task].end; ++p) {
        const Pair& pair = schedule.pair[p];
        const double *a = args.positions + 3 * size_t(pair.i), *b = args.positions + 3 * size_t(pair.j);
        double v[3] = {b[0] - a[0], b[1] - a[1], b[2] - a[2]};
        if (pair.offset >= 0)
            for (int k = 0; k < 3; ++k) v[k] += schedule.offsets[3 * size_t(pair.offset) + k];
        const double r = __builtin_sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
        if (!(r < m.cutoff)) continue;
        if (r < m.start) {
            pairs.end[task] = -1;
            return;
        }
        double* u = pairs.vector + 4 * size_t(n);
        for (int k = 0; k < 3; ++k) u[k] = v[k] / r;
        u[3] = r;
        float* record = pairs.record + size_t(n) * pairs.record_stride;
        const Repulsion& repulsion = repulsion_of(args, pair.i, pair.j);
        double slope, bend, Y[MAX_COMPONENTS];
        const double seen = seen_distance(repulsion, r, &bend);
        record[ENVELOPE] = float(envelope(m, seen, &slope));
        record[ENVELOPE_SLOPE] = float(slope * bend);
        record[BACK] = pair.back;
        const double place = (__builtin_log(seen + m.bend) - origin) / m.spacing;
        const int32_t knot = int32_t(place) < m.knots - 2 ? int32_t(place) : m.knots - 2;
        __builtin_memcpy(record + KNOT, &knot, sizeof knot);
        spline(place - knot, m.spacing * (seen + m.bend), record + VALUE, record + SLOPE);
        if (r < repulsion.onset) {
            ++close;
            for (int k = 0; k < 4; ++k) record[SLOPE + k] *= float(bend);
        }
        harmonics(u[0], u[1], u[2], m.shape.L, Y);
        for (int k = 0; k < m.shape.M; ++k) record[HARMONICS + k] = float(Y[k]);
        float* gradient = pairs.gradient + size_t(n) * pairs.gradient_stride;
        for (int k = 0; k < BY_HARMONICS + m.shape.M; ++k) gradient[k] = 0.0f;
        pairs.i[n] = pair.i;
        pairs.j[n] = pair.j;
        ++n;
    }
    pairs.end[task] = n;
    pairs.repelled[task] = close;
}

// Add what the gradients of pairs say to the gradient of the positions, and to the virials.
inline void scatter_forces(Arguments& args, int task) {
    const Pairs& pairs = args.pairs;
    const Shape& s = args.parameters->shape;
    for (int p = pairs.begin[task]; p < pairs.end[task]; ++p) {
        const double* u = pairs.vector + 4 * size_t(p);
        const float* g = pairs.gradient + size_t(p) * pairs.gradient_stride;
        const Dual x = {u[0], 1, 0, 0}, y = {u[1], 0, 1, 0}, z = {u[2], 0, 0, 1};
        Dual Y[MAX_COMPONENTS];
        harmonics(x, y, z, s.L, Y);
        double d[3] = {0, 0, 0};
        for (int k = 0; k < s.M; ++k) {
            const double w = g[BY_HARMONICS + k];
            d[0] += w * Y[k].x, d[1] += w * Y[k].y, d[2] += w * Y[k].z;
        }
        const double slope = pairs.record[size_t(p) * pairs.record_stride + ENVELOPE_SLOPE];
        const double along = d[0] * u[0] + d[1] * u[1] + d[2] * u[2];
        const double radial = double(g[BY_DISTANCE]) + double(g[BY_ENVELOPE]) * slope;
        double *fi = args.work.forces + 3 * size_t(pairs.i[p]), *fj = args.work.forces + 3 * size_t(pairs.j[p]);
        for (int k = 0; k < 3; ++k) d[k] = radial * u[k] + (d[k] - along * u[k]) / u[3];
        for (int k = 0; k < 3; ++k) fi[k] -= d[k], fj[k] += d[k];
        if (!args.work.virials) continue;
        double* virial = args.work.virials + 9 * size_t(pairs.i[p]);
        for (int a = 0; a < 3; ++a)
            for (int b = 0; b < 3; ++b) virial[3 * a + b] += u[3] * u[a] * d[b];
    }
}

}  // namespace gaq::transformer::GAQ_ISA
