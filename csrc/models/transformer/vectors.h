// Rounding of vector features, by component or as magnitude times direction (MDDQ), in an atom's frame or as they are.
// Rounded features stay in the frame: channels mix, and invariants are taken, before they are rotated back.
#pragma once

#include "gemm/linear.h"
#include "models/transformer/arguments.h"

namespace gaq::transformer::GAQ_ISA {

using namespace gaq::GAQ_ISA;  // NOLINT: kernels are written in the vectors of their instruction set

// Turn n components into the frame, w_a = sum_b D[b][a] v_b, or back, w_b = sum_a D[b][a] v_a.
template <int n, bool back>
GAQ_INLINE void rotate(const float* D, const Vec* v, Vec* w) {
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

// The n components of a vector of channels, rows `stride` apart, rotated if there is a frame.
template <int n, bool back>
GAQ_INLINE void load_rotated(const float* D, const float* v, size_t stride, Vec* w) {
    Vec x[n];
    for (int a = 0; a < n; ++a) x[a] = load(v + a * stride);
    if (D) rotate<n, back>(D, x, w);
    else
        for (int a = 0; a < n; ++a) w[a] = x[a];
}

template <int n>
struct VectorCode {  // of one vector: what its code stands for, and what the gradient needs
    Vec value[n], direction[n], unit[n], rounded, share;  // share: of the magnitude that its code keeps
    Mask is_zero, clipped;
};

struct Steps {  // of the codes of a vector of channels
    Divisor step, component;
    Vec magnitudes, components;  // largest codes
    GAQ_INLINE Steps(const Rounding& r, int c)
        : step(load(r.step + c), load(r.inverse + c)), component(Vec(float(1.0 / double(r.component_qmax)))),
          magnitudes(r.magnitude_qmax), components(r.component_qmax) {}
};

template <int n>
GAQ_INLINE VectorCode<n> mddq(const Steps& r, const Vec* w) {
    VectorCode<n> c;
    Vec square = w[0] * w[0];
    for (int a = 1; a < n; ++a) square = square + w[a] * w[a];
    const Vec half = r.step.value * Vec(0.5f), tiny(1.17549435e-38f);
    c.is_zero = square <= max(half * half, tiny);
    const Divisor magnitude = root(select(c.is_zero, Vec(1.0f), square));
    Vec length;
    for (int a = 0; a < n; ++a) {
        c.unit[a] = w[a] / magnitude;
        c.direction[a] = round(c.unit[a] / r.component);  // within its range, for |unit| <= 1 up to rounding
        length = fma(c.direction[a], c.direction[a], length);
    }
    const Vec shorten = inverse_sqrt(max(length, Vec(1.0f))),
              t = magnitude.value / r.step;  // codes are whole: 0, or 1 and more
    c.clipped = t > r.magnitudes + Vec(0.5f);
    c.rounded = rounded_code(t, Vec(0.0f), r.magnitudes) * r.step.value;
    c.share = c.rounded * magnitude.inverse;
    for (int a = 0; a < n; ++a) {
        c.direction[a] = c.direction[a] * shorten;
        c.value[a] = select(c.is_zero, Vec(), c.rounded * c.direction[a]);
    }
    return c;
}

template <int n>
GAQ_INLINE int64_t round_one(const Rounding& r, const Steps& steps, const float* D, const float* v, float* out, int Cp,
                             int c) {
    Vec x[n], w[n];
    int64_t clipped = 0;
    for (int a = 0; a < n; ++a) x[a] = load(v + a * Cp + c);
    if (r.aligned) rotate<n, false>(D, x, w);
    else
        for (int a = 0; a < n; ++a) w[a] = x[a];
    if (r.format == Format::mddq) {
        const VectorCode<n> code = mddq<n>(steps, w);
        for (int a = 0; a < n; ++a) w[a] = code.value[a];
        clipped = count(code.clipped);
    } else {
        const Vec q = steps.components;
        for (int a = 0; a < n; ++a) {
            const Vec t = w[a] / steps.step;
            clipped += count(outside(t, q));
            w[a] = rounded_code(t, Vec(0.0f) - q, q) * steps.step.value;
        }
    }
    for (int a = 0; a < n; ++a) w[a].store(out + a * Cp + c);
    return clipped;
}

template <int n>
GAQ_INLINE void adjoint_one(const Rounding& r, const Steps& steps, const float* D, const float* v, const float* g,
                            float* dv, int Cp, int c) {
    Vec x[n], w[n], y[n], d[n];
    for (int a = 0; a < n; ++a) {
        x[a] = load(v + a * Cp + c);
        d[a] = load(g + a * Cp + c);
    }
    if (r.aligned) rotate<n, false>(D, x, w);
    else
        for (int a = 0; a < n; ++a) w[a] = x[a];
    if (r.format == Format::mddq) {
        const VectorCode<n> code = mddq<n>(steps, w);
        Vec radial, along;
        for (int a = 0; a < n; ++a) {
            radial = fma(d[a], code.direction[a], radial);
            along = fma(d[a], code.unit[a], along);
        }
        radial = select(code.clipped, Vec(), radial);
        for (int a = 0; a < n; ++a) {
            Vec t = code.unit[a] * radial;
            if (r.gradient == Gradient::geometric) t = fma(code.share, d[a] - code.unit[a] * along, t);
            if (r.gradient == Gradient::plain) t = fma(code.share, d[a], t);
            d[a] = select(code.is_zero, d[a], t);
        }
    } else {
        for (int a = 0; a < n; ++a) d[a] = select(outside(w[a] / steps.step, steps.components), Vec(), d[a]);
    }
    if (r.aligned) rotate<n, true>(D, d, y);
    else
        for (int a = 0; a < n; ++a) y[a] = d[a];
    for (int a = 0; a < n; ++a) add_to(dv + a * Cp + c, y[a]);
}

// Codes of `atoms` atoms of one degree, in their frames if aligned: `v` lies (n, Cp) for each, apart by `jump` floats,
// `out` one after the other; D steps by `frame` floats from atom to atom.
template <int n>
void round_degree(const Rounding& r, const float* D, size_t frame, const float* v, size_t jump, float* out, int atoms,
                  int Cp, Scratch& z) {
    int64_t clipped = 0;
    for (int c = 0; c < Cp; c += WIDTH) {
        const Steps steps(r, c);
        for (int i = 0; i < atoms; ++i)
            clipped += round_one<n>(r, steps, D + i * frame, v + i * jump, out + size_t(i) * n * Cp, Cp, c);
    }
    z.clipped[r.quantizer] += uint64_t(clipped);
    z.seen[r.quantizer] += uint64_t(atoms) * uint64_t(Cp) * (r.format == Format::mddq ? 1 : n);
}

template <int n>
void adjoint_degree(const Rounding& r, const float* D, size_t frame, const float* v, size_t jump, const float* g, float* dv,
                    int atoms, int Cp) {
    for (int c = 0; c < Cp; c += WIDTH) {
        const Steps steps(r, c);
        for (int i = 0; i < atoms; ++i)
            adjoint_one<n>(r, steps, D + i * frame, v + i * jump, g + size_t(i) * n * Cp, dv + i * jump, Cp, c);
    }
}

inline void round_vectors(const Rounding& r, int degree, const float* D, size_t frame, const float* v, size_t jump,
                          float* out, int atoms, int Cp, Scratch& z) {
    with_degree(degree, [&](auto n) { round_degree<decltype(n)::value>(r, D, frame, v, jump, out, atoms, Cp, z); });
}

// dv += (dQ/dv)^T g, dv as v and g as `out` above.
inline void round_vectors_adjoint(const Rounding& r, int degree, const float* D, size_t frame, const float* v, size_t jump,
                                  const float* g, float* dv, int atoms, int Cp) {
    with_degree(degree, [&](auto n) { adjoint_degree<decltype(n)::value>(r, D, frame, v, jump, g, dv, atoms, Cp); });
}

}  // namespace gaq::transformer::GAQ_ISA
