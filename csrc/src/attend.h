// Messages between the atoms of a pair, weighted by attention; both directions at once.
//
// Weights stay without their denominator, which is divided out when all neighbours have spoken, so that one pass over the
// pairs is enough. Kept for the backward pass, at Activations::weights, with H values each:
//   robust:    e_ij = φ exp(ℓ_ij), e_ji, tanh b
//   so3krates: q_i (f k_j) / sqrt(F/H), the same for ji: to be multiplied by φ
#pragma once

#include "filters.h"

namespace gaq {
namespace GAQ_ISA {

// Places in Scratch::small: codes of contractions, weights of both directions, and room for sums by head.
struct Small {
    float *codes, *ij, *ji, *third, *fourth;
    template <class S>
    GAQ_INLINE Small(const S& s, Scratch& z)
        : codes(z.small), ij(codes + s.L * s.Hp), ji(ij + s.Hp), third(ji + s.Hp), fourth(third + s.Hp) {}
};

// Fill `w` with the record of this pair, and Small::ij and ji with the weights to be used.
template <bool robust, class S>
GAQ_INLINE void attention(const S& s, const Model& m, const Activations& t, const float* record, const float* filter, int i, int j,
                          const Small& local, float* w) {
    const float *qi = t.query + size_t(i) * s.Fp, *qj = t.query + size_t(j) * s.Fp;
    const float *ki = t.key + size_t(i) * s.Fp, *kj = t.key + size_t(j) * s.Fp;
    const float* part = filter + s.Fp + 2 * s.G;
    const Vec envelope(record[ENVELOPE]), back(record[BACK]);
    if (robust) {
        sum_heads(s, m.scalar_heads, s.Fp, local.ij, [&](int c) { return load(qi + c) * load(kj + c); });
        sum_heads(s, m.scalar_heads, s.Fp, local.ji, [&](int c) { return load(qj + c) * load(ki + c); });
        for (int h = 0; h < s.H; h += WIDTH) {
            const int n = lanes(s.H, h);
            const Vec b = tanh(load(part + h));
            const Vec ij = envelope * exp(load(local.ij + h) + b), ji = back * envelope * exp(load(local.ji + h) + b);
            ij.store(local.ij + h);
            ji.store(local.ji + h);
            store_first(w + h, n, ij);
            store_first(w + s.H + h, n, ji);
            store_first(w + 2 * s.H + h, n, b);
            add_to(t.total + size_t(i) * s.Hp + h, ij);  // beyond the heads there is no sense, and no reader
            add_to(t.total + size_t(j) * s.Hp + h, ji);
        }
        return;
    }
    const Vec scale(1.0f / __builtin_sqrtf(float(m.shape.F) / float(s.H)));
    sum_heads(s, m.scalar_heads, s.Fp, local.ij, [&](int c) { return load(qi + c) * load(kj + c) * load(part + c); });
    sum_heads(s, m.scalar_heads, s.Fp, local.ji, [&](int c) { return load(qj + c) * load(ki + c) * load(part + c); });
    for (int h = 0; h < s.H; h += WIDTH) {
        const int n = lanes(s.H, h);
        const Vec ij = load(local.ij + h) * scale, ji = load(local.ji + h) * scale * back;
        store_first(w + h, n, ij);
        store_first(w + s.H + h, n, ji);
        (ij * envelope).store(local.ij + h);
        (ji * envelope).store(local.ji + h);
    }
}

// The share of one degree in the vector messages.
template <int l, class S>
GAQ_INLINE void vector_messages(const S& s, Activations& t, int i, int j, int c, Vec ij, Vec ji, const float* filter,
                                const float* Y) {
    const int o = s.Fp + (l - 1) * s.Cp + c;
    const float *vi = t.value + size_t(i) * (s.Fp + s.G) + o, *vj = t.value + size_t(j) * (s.Fp + s.G) + o;
    const Vec own = load(filter + o), carried = load(filter + o + s.G);
    const Vec gi = ij * own * load(vj), gj = ji * own * (l % 2 ? Vec(0.0f) - load(vi) : load(vi));
    const Vec hi = ij * carried, hj = ji * carried;
    const size_t at_i = vector_place(l, s.M, i, s.Cp) + c, at_j = vector_place(l, s.M, j, s.Cp) + c;
    float *mi = t.vector_message + at_i, *mj = t.vector_message + at_j;
    const float *ri = t.mixed + at_i, *rj = t.mixed + at_j;
#pragma GCC unroll 9
    for (int k = 0; k <= 2 * l; ++k) {
        const Vec h(Y[first_component(l) + k]);
        fma(gi, h, fma(hi, load(rj + k * s.Cp), load(mi + k * s.Cp))).store(mi + k * s.Cp);
        fma(gj, h, fma(hj, load(ri + k * s.Cp), load(mj + k * s.Cp))).store(mj + k * s.Cp);
    }
}

template <bool robust, class S>
void attend_pairs(const S& s, Job& job, int layer, int task, Scratch& z) {
    const Model& m = *job.model;
    const Layer& y = m.layers[layer];
    Activations& t = job.state.layer[layer];
    const Near& near = job.near;
    const Small local(s, z);
    for (int p = near.begin[task]; p < near.end[task]; ++p) {
        const int i = near.i[p], j = near.j[p];
        const float* record = near.record + size_t(p) * near.record_stride;
        float* filter = t.filters ? t.filters + size_t(p) * s.W : z.filter;
        contractions(s, y, t.projected, i, j, local.codes, z);
        filters<true, false>(s, y, record, local.codes, filter, nullptr);
        attention<robust>(s, m, t, record, filter, i, j, local, t.weights + size_t(p) * job.state.weight_stride);
        const float *vi = t.value + size_t(i) * (s.Fp + s.G), *vj = t.value + size_t(j) * (s.Fp + s.G);
        float *xi = t.message + size_t(i) * s.Fp, *xj = t.message + size_t(j) * s.Fp;
#pragma GCC unroll 8
        for (int c = 0; c < s.Fp; c += WIDTH) {
            const Vec f = load(filter + c);
            add_to(xi + c, of_head(s, m.scalar_heads, s.Fp, local.ij, c) * f * load(vj + c));
            add_to(xj + c, of_head(s, m.scalar_heads, s.Fp, local.ji, c) * f * load(vi + c));
        }
        const float* Y = record + HARMONICS;
        for (int c = 0; c < s.Cp; c += WIDTH) {
            const Vec ij = of_head(s, m.vector_heads, s.Cp, local.ij, c), ji = of_head(s, m.vector_heads, s.Cp, local.ji, c);
            vector_messages<1>(s, t, i, j, c, ij, ji, filter, Y);
            if (s.L >= 2) vector_messages<2>(s, t, i, j, c, ij, ji, filter, Y);
            if (s.L >= 3) vector_messages<3>(s, t, i, j, c, ij, ji, filter, Y);
            if (s.L >= 4) vector_messages<4>(s, t, i, j, c, ij, ji, filter, Y);
        }
    }
}

inline void attend(Job& job, int layer, int task, Scratch& z) {
    const Shape& shape = job.model->shape;
    if (shape.robust) with_shape(shape, [&](const auto& s) { attend_pairs<true>(s, job, layer, task, z); });
    else attend_pairs<false>(shape, job, layer, task, z);
}

}  // namespace GAQ_ISA
}  // namespace gaq
