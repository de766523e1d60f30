// Rounding of vector features, by component or as magnitude times direction (MDDQ), in an atom's frame or as they are.
// Rounded features stay in the frame: channels mix, and invariants are taken, before they are turned back.
#pragma once

#include "maps.h"

namespace gaq {
namespace GAQ_ISA {

// Turn n components into the frame, w_a = sum_b D[b][a] v_b, or back, w_b = sum_a D[b][a] v_a.
template <int n, bool back>
GAQ_INLINE void turn(const float* D, const Vec* v, Vec* w) {
    for (int a = 0; a < n; ++a) {
        w[a] = v[0] * Vec(D[back ? a * n : a]);
        for (int b = 1; b < n; ++b) w[a] = fma(v[b], Vec(D[back ? a * n + b : b * n + a]), w[a]);
    }
}

template <int n>
struct Size {
    static constexpr int value = n;
};

// Call work(Size<2l+1>).
template <class Work>
GAQ_INLINE void with_degree(int l, const Work& work) {
    switch (l) {
        case 1: work(Size<3>()); break;
        case 2: work(Size<5>()); break;
        case 3: work(Size<7>()); break;
        default: work(Size<9>()); break;
    }
}

// The n components of a vector of channels, rows `stride` apart, turned if there is a frame.
template <int n, bool back>
GAQ_INLINE void load_turned(const float* D, const float* v, size_t stride, Vec* w) {
    Vec x[n];
    for (int a = 0; a < n; ++a) x[a] = load(v + a * stride);
    if (D) turn<n, back>(D, x, w);
    else for (int a = 0; a < n; ++a) w[a] = x[a];
}

template <int n>
struct Coded {                     // of one vector: what its code stands for, and what the gradient needs
    Vec value[n], direction[n], unit[n], magnitude, rounded;
    Mask silent, clipped;
};

template <int n>
GAQ_INLINE Coded<n> mddq(const Rounding& r, const Vec* w, Vec step) {
    Coded<n> c;
    Vec square = w[0] * w[0];
    for (int a = 1; a < n; ++a) square = square + w[a] * w[a];
    const Vec half = step * Vec(0.5f), tiny(1.17549435e-38f), largest(r.magnitude_qmax), q(r.component_qmax);
    c.silent = square <= max(half * half, tiny);
    c.magnitude = sqrt(select(c.silent, Vec(1.0f), square));
    const Vec component(float(1.0 / double(r.component_qmax)));
    Vec length;
    for (int a = 0; a < n; ++a) {
        c.unit[a] = w[a] / c.magnitude;
        c.direction[a] = coded(c.unit[a] / component, Vec(0.0f) - q, q);
        length = fma(c.direction[a], c.direction[a], length);
    }
    length = max(sqrt(length), tiny);
    const Vec t = c.magnitude / step;
    c.clipped = t > largest + Vec(0.5f);
    c.rounded = coded(t, Vec(0.0f), largest) * step;
    for (int a = 0; a < n; ++a) {
        c.direction[a] = c.direction[a] / length;
        c.value[a] = select(c.silent, Vec(), c.rounded * c.direction[a]);
    }
    return c;
}

template <int n>
GAQ_INLINE int64_t round_one(const Rounding& r, const float* D, const float* v, float* out, int Cp, int c) {
    Vec x[n], w[n];
    int64_t clipped = 0;
    const Vec step = load(r.step + c);
    for (int a = 0; a < n; ++a) x[a] = load(v + a * Cp + c);
    if (r.aligned) turn<n, false>(D, x, w);
    else for (int a = 0; a < n; ++a) w[a] = x[a];
    if (r.format == Format::mddq) {
        const Coded<n> code = mddq<n>(r, w, step);
        for (int a = 0; a < n; ++a) w[a] = code.value[a];
        clipped = count(code.clipped);
    } else {
        const Vec q(r.component_qmax);
        for (int a = 0; a < n; ++a) {
            const Vec t = w[a] / step;
            clipped += count(outside(t, q));
            w[a] = coded(t, Vec(0.0f) - q, q) * step;
        }
    }
    for (int a = 0; a < n; ++a) w[a].store(out + a * Cp + c);
    return clipped;
}

template <int n>
GAQ_INLINE void adjoint_one(const Rounding& r, const float* D, const float* v, const float* g, float* dv, int Cp, int c) {
    Vec x[n], w[n], y[n], d[n];
    const Vec step = load(r.step + c);
    for (int a = 0; a < n; ++a) {
        x[a] = load(v + a * Cp + c);
        d[a] = load(g + a * Cp + c);
    }
    if (r.aligned) turn<n, false>(D, x, w);
    else for (int a = 0; a < n; ++a) w[a] = x[a];
    if (r.format == Format::mddq) {
        const Coded<n> code = mddq<n>(r, w, step);
        Vec radial, along;
        for (int a = 0; a < n; ++a) {
            radial = fma(d[a], code.direction[a], radial);
            along = fma(d[a], code.unit[a], along);
        }
        radial = select(code.clipped, Vec(), radial);
        const Vec share = code.rounded / code.magnitude;
        for (int a = 0; a < n; ++a) {
            Vec t = code.unit[a] * radial;
            if (r.gradient == Gradient::geometric) t = fma(share, d[a] - code.unit[a] * along, t);
            if (r.gradient == Gradient::plain) t = fma(share, d[a], t);
            d[a] = select(code.silent, d[a], t);
        }
    } else {
        for (int a = 0; a < n; ++a) d[a] = select(outside(w[a] / step, Vec(r.component_qmax)), Vec(), d[a]);
    }
    if (r.aligned) turn<n, true>(D, d, y);
    else for (int a = 0; a < n; ++a) y[a] = d[a];
    for (int a = 0; a < n; ++a) add_to(dv + a * Cp + c, y[a]);
}

// Codes of `atoms` atoms of one degree, in their frames if aligned: `v` lies (n, Cp) for each, apart by `jump` floats, `out` one after the other; D steps
// by `frame` floats from atom to atom.
template <int n>
void round_degree(const Rounding& r, const float* D, size_t frame, const float* v, size_t jump, float* out, int atoms, int Cp,
                  Scratch& z) {
    int64_t clipped = 0;
    for (int i = 0; i < atoms; ++i)
        for (int c = 0; c < Cp; c += WIDTH)
            clipped += round_one<n>(r, D + i * frame, v + i * jump, out + size_t(i) * n * Cp, Cp, c);
    z.clipped[r.quantizer] += uint64_t(clipped);
    z.seen[r.quantizer] += uint64_t(atoms) * uint64_t(Cp) * (r.format == Format::mddq ? 1 : n);
}

template <int n>
void adjoint_degree(const Rounding& r, const float* D, size_t frame, const float* v, size_t jump, const float* g, float* dv,
                    int atoms, int Cp) {
    for (int i = 0; i < atoms; ++i)
        for (int c = 0; c < Cp; c += WIDTH)
            adjoint_one<n>(r, D + i * frame, v + i * jump, g + size_t(i) * n * Cp, dv + i * jump, Cp, c);
}

inline void round_vectors(const Rounding& r, int degree, const float* D, size_t frame, const float* v, size_t jump, float* out,
                          int atoms, int Cp, Scratch& z) {
    with_degree(degree, [&](auto n) { round_degree<decltype(n)::value>(r, D, frame, v, jump, out, atoms, Cp, z); });
}

// dv += (dQ/dv)^T g, dv as v and g as `out` above.
inline void round_vectors_adjoint(const Rounding& r, int degree, const float* D, size_t frame, const float* v, size_t jump,
                                  const float* g, float* dv, int atoms, int Cp) {
    with_degree(degree, [&](auto n) { adjoint_degree<decltype(n)::value>(r, D, frame, v, jump, g, dv, atoms, Cp); });
}

}  // namespace GAQ_ISA
}  // namespace gaq
