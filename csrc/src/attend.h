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
    GAQ_INLINE Small(const Shape& s, Scratch& z)
        : codes(z.small), ij(codes + s.L * s.Hp), ji(ij + s.Hp), third(ji + s.Hp), fourth(third + s.Hp) {}
};

// Fill `w` with the record of this pair, and Small::ij and ji with the weights to be used.
template <bool robust>
GAQ_INLINE void attention(const Model& m, const Activations& t, const float* record, const float* filter, int i, int j,
                          const Small& local, float* w) {
    const Shape& s = m.shape;
    const float *qi = t.query + size_t(i) * s.Fp, *qj = t.query + size_t(j) * s.Fp;
    const float *ki = t.key + size_t(i) * s.Fp, *kj = t.key + size_t(j) * s.Fp;
    const float* part = filter + s.Fp + 2 * s.G;
    const Vec envelope(record[ENVELOPE]), back(record[BACK]);
    if (robust) {
        by_head(m.scalar_heads, s.H, local.ij, [&](int c) { return load(qi + c) * load(kj + c); });
        by_head(m.scalar_heads, s.H, local.ji, [&](int c) { return load(qj + c) * load(ki + c); });
        for (int h = 0; h < s.H; h += WIDTH) {
            const Vec b = tanh(load(part + h));
            (envelope * exp(load(local.ij + h) + b)).store(local.ij + h);
            (back * envelope * exp(load(local.ji + h) + b)).store(local.ji + h);
            b.store(local.third + h);
        }
        for (int h = 0; h < s.H; ++h) w[2 * s.H + h] = local.third[h];
    } else {
        const Vec scale(1.0f / __builtin_sqrtf(float(s.F) / float(s.H)));
        by_head(m.scalar_heads, s.H, local.ij, [&](int c) { return load(qi + c) * load(kj + c) * load(part + c); });
        by_head(m.scalar_heads, s.H, local.ji, [&](int c) { return load(qj + c) * load(ki + c) * load(part + c); });
        for (int h = 0; h < s.H; h += WIDTH) {
            (load(local.ij + h) * scale).store(local.ij + h);
            (load(local.ji + h) * scale * back).store(local.ji + h);
        }
    }
    for (int h = 0; h < s.H; ++h) {
        w[h] = local.ij[h];
        w[s.H + h] = local.ji[h];
        if (!robust) {
            local.ij[h] *= record[ENVELOPE];
            local.ji[h] *= record[ENVELOPE];
        }
    }
}

template <int L, bool robust>
void attend_pairs(Job& job, int layer, int task, Scratch& z) {
    const Model& m = *job.model;
    const Shape& s = m.shape;
    const Layer& y = m.layers[layer];
    Activations& t = job.state.layer[layer];
    const Near& near = job.near;
    const int N = job.plan.atoms;
    const Small local(s, z);
    const float* filter = z.filter;
    for (int p = near.begin[task]; p < near.end[task]; ++p) {
        const int i = near.i[p], j = near.j[p];
        const float* record = near.record + size_t(p) * near.record_stride;
        contractions(job, y, t.projected, i, j, local.codes, z);
        filters<false>(s, y, record, local.codes, z.filter, z.slope);
        attention<robust>(m, t, record, filter, i, j, local, t.weights + size_t(p) * job.state.weight_stride);
        if (robust)
            for (int h = 0; h < s.H; ++h) {
                t.total[size_t(i) * s.Hp + h] += local.ij[h];
                t.total[size_t(j) * s.Hp + h] += local.ji[h];
            }
        const float *vi = t.value + size_t(i) * (s.Fp + s.G), *vj = t.value + size_t(j) * (s.Fp + s.G);
        float *xi = t.message + size_t(i) * s.Fp, *xj = t.message + size_t(j) * s.Fp;
        for (int c = 0; c < s.Fp; c += WIDTH) {
            const int32_t* of = m.scalar_heads.of_channel + c;
            const Vec f = load(filter + c);
            add_to(xi + c, spread(local.ij, of, s.H) * f * load(vj + c));
            add_to(xj + c, spread(local.ji, of, s.H) * f * load(vi + c));
        }
        const float* Y = record + HARMONICS;
        for (int c = 0; c < s.Cp; c += WIDTH) {
            const int32_t* of = m.vector_heads.of_channel + c;
            const Vec ij = spread(local.ij, of, s.H), ji = spread(local.ji, of, s.H);
#pragma GCC unroll 4
            for (int l = 1; l <= L; ++l) {
                const int o = s.Fp + (l - 1) * s.Cp + c;
                const Vec own = load(filter + o), carried = load(filter + o + s.G);
                const Vec gi = ij * own * load(vj + o), gj = ji * own * (l % 2 ? Vec(0.0f) - load(vi + o) : load(vi + o));
                const Vec hi = ij * carried, hj = ji * carried;
                const size_t at_i = vector_place(l, N, i, s.Cp) + c, at_j = vector_place(l, N, j, s.Cp) + c;
#pragma GCC unroll 9
                for (int k = 0; k <= 2 * l; ++k) {
                    const Vec h(Y[first_component(l) + k]);
                    float *mi = t.vector_message + at_i + k * s.Cp, *mj = t.vector_message + at_j + k * s.Cp;
                    fma(gi, h, fma(hi, load(t.mixed + at_j + k * s.Cp), load(mi))).store(mi);
                    fma(gj, h, fma(hj, load(t.mixed + at_i + k * s.Cp), load(mj))).store(mj);
                }
            }
        }
    }
}

template <bool robust>
void attend_any(Job& job, int layer, int task, Scratch& z) {
    switch (job.model->shape.L) {
        case 1: attend_pairs<1, robust>(job, layer, task, z); break;
        case 2: attend_pairs<2, robust>(job, layer, task, z); break;
        case 3: attend_pairs<3, robust>(job, layer, task, z); break;
        default: attend_pairs<4, robust>(job, layer, task, z); break;
    }
}

inline void attend(Job& job, int layer, int task, Scratch& z) {
    job.model->shape.robust ? attend_any<true>(job, layer, task, z) : attend_any<false>(job, layer, task, z);
}

}  // namespace GAQ_ISA
}  // namespace gaq
