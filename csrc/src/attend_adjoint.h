// The adjoint of attend.h by hand: filters and weights are computed again, nothing of the size of edges times channels kept.
//
// With a_ij = e_ij / t_i the gradient of a logit is a_ij (∂a_ij - Σ_k a_ik ∂a_ik), and the sum is known beforehand from the
// messages themselves (State::g_share), so that one pass over the pairs is enough here too.
#pragma once

#include "attend.h"

namespace gaq {
namespace GAQ_ISA {

struct Heading {                   // gradients of the weights of both directions, by channel: scratch rows
    float *scalar_ij, *scalar_ji, *vector_ij, *vector_ji;
};

// Scalar messages: gradients of filters (stored), values (added), weights (stored by channel).
GAQ_INLINE void scalar_adjoint(const Model& m, const Activations& t, State& g, const Small& local, int i, int j,
                               const float* filter, float* by_filter, const Heading& by) {
    const Shape& s = m.shape;
    const size_t gates = s.Fp + s.G;
    for (int c = 0; c < s.Fp; c += WIDTH) {
        const int32_t* of = m.scalar_heads.of_channel + c;
        const Vec ij = spread(local.ij, of, s.H), ji = spread(local.ji, of, s.H), f = load(filter + c);
        const Vec gi = load(g.g_message + size_t(i) * s.Fp + c), gj = load(g.g_message + size_t(j) * s.Fp + c);
        const Vec tij = gi * load(t.value + size_t(j) * gates + c), tji = gj * load(t.value + size_t(i) * gates + c);
        fma(ij, tij, ji * tji).store(by_filter + c);
        (f * tij).store(by.scalar_ij + c);
        (f * tji).store(by.scalar_ji + c);
        add_to(g.g_value + size_t(j) * gates + c, ij * f * gi);
        add_to(g.g_value + size_t(i) * gates + c, ji * f * gj);
    }
}

// Vector messages: the same, and gradients of mixed features (added) and harmonics (added to `by_harmonics`).
template <int L>
GAQ_INLINE void vector_adjoint(const Job& job, const Activations& t, const Small& local, int i, int j, const float* filter,
                               const float* Y, float* by_filter, const Heading& by, Vec* by_harmonics) {
    const Model& m = *job.model;
    const Shape& s = m.shape;
    const State& g = job.state;
    const size_t gates = s.Fp + s.G;
    const float *vi = t.value + size_t(i) * gates, *vj = t.value + size_t(j) * gates;
    float *dvi = g.g_value + size_t(i) * gates, *dvj = g.g_value + size_t(j) * gates;
    for (int c = 0; c < s.Cp; c += WIDTH) {
        const int32_t* of = m.vector_heads.of_channel + c;
        const Vec ij = spread(local.ij, of, s.H), ji = spread(local.ji, of, s.H);
        Vec weight_ij, weight_ji;
#pragma GCC unroll 4
        for (int l = 1; l <= L; ++l) {
            const int o = s.Fp + (l - 1) * s.Cp + c;
            const Vec own = load(filter + o), carried = load(filter + o + s.G), value_j = load(vj + o);
            const Vec value_i = l % 2 ? Vec(0.0f) - load(vi + o) : load(vi + o);  // Y^l(-r) = (-1)^l Y^l(r)
            const Vec hi = ij * carried, hj = ji * carried, bi = ij * own * value_j, bj = ji * own * value_i;
            const size_t at_i = vector_place(l, job.plan.atoms, i, s.Cp) + c;
            const size_t at_j = vector_place(l, job.plan.atoms, j, s.Cp) + c;
            Vec si, sj, ui, uj;
#pragma GCC unroll 9
            for (int k = 0; k <= 2 * l; ++k) {
                const int o_k = k * s.Cp, q = first_component(l) + k;
                const Vec h(Y[q]), gi = load(g.gv + at_i + o_k), gj = load(g.gv + at_j + o_k);
                si = fma(gi, h, si);
                sj = fma(gj, h, sj);
                ui = fma(gi, load(t.mixed + at_j + o_k), ui);
                uj = fma(gj, load(t.mixed + at_i + o_k), uj);
                by_harmonics[q] = fma(gi, bi, fma(gj, bj, by_harmonics[q]));
                fma(hi, gi, load(g.g_mixed + at_j + o_k)).store(g.g_mixed + at_j + o_k);
                fma(hj, gj, load(g.g_mixed + at_i + o_k)).store(g.g_mixed + at_i + o_k);
            }
            fma(ij * si, value_j, ji * sj * value_i).store(by_filter + o);
            fma(ij, ui, ji * uj).store(by_filter + o + s.G);
            weight_ij = weight_ij + fma(own * si, value_j, carried * ui);
            weight_ji = weight_ji + fma(own * sj, value_i, carried * uj);
            add_to(dvj + o, ij * own * si);
            add_to(dvi + o, l % 2 ? Vec(0.0f) - ji * own * sj : ji * own * sj);
        }
        weight_ij.store(by.vector_ij + c);
        weight_ji.store(by.vector_ji + c);
    }
}

// From the gradients of the weights, by head in `ij` and `ji`, to those of filters, queries, keys and envelope.
template <bool robust>
GAQ_INLINE float attention_adjoint(const Model& m, const Activations& t, State& g, const float* record, const float* w,
                                   const float* filter, float* by_filter, int i, int j, float* ij, float* ji) {
    const Shape& s = m.shape;
    const size_t at_i = size_t(i) * s.Fp, at_j = size_t(j) * s.Fp;
    float* part = by_filter + s.Fp + 2 * s.G;
    const float envelope = record[ENVELOPE];
    float by_envelope = 0.0f;
    for (int h = 0; h < s.H; ++h) {
        if (robust) {
            ij[h] = w[h] * t.total[size_t(i) * s.Hp + h] * (ij[h] - g.g_share[size_t(i) * s.Hp + h]);
            ji[h] = w[s.H + h] * t.total[size_t(j) * s.Hp + h] * (ji[h] - g.g_share[size_t(j) * s.Hp + h]);
            by_envelope += ij[h] + ji[h];
            part[h] = (ij[h] + ji[h]) * (1.0f - w[2 * s.H + h] * w[2 * s.H + h]);
        } else {
            const float scale = envelope / __builtin_sqrtf(float(s.F) / float(s.H));
            by_envelope += ij[h] * w[h] + ji[h] * w[s.H + h];
            ij[h] *= scale;
            ji[h] *= scale * record[BACK];
        }
    }
    for (int c = 0; c < s.Fp; c += WIDTH) {
        const int32_t* of = m.scalar_heads.of_channel + c;
        const Vec qi = load(t.query + at_i + c), qj = load(t.query + at_j + c);
        const Vec ki = load(t.key + at_i + c), kj = load(t.key + at_j + c);
        Vec dij = spread(ij, of, s.H), dji = spread(ji, of, s.H);
        if (!robust) {
            fma(dij * qi, kj, dji * qj * ki).store(part + c);
            const Vec f = load(filter + s.Fp + 2 * s.G + c);
            dij = dij * f;
            dji = dji * f;
        }
        add_to(g.g_query + at_i + c, dij * kj);
        add_to(g.g_key + at_j + c, dij * qi);
        add_to(g.g_query + at_j + c, dji * ki);
        add_to(g.g_key + at_i + c, dji * qj);
    }
    return robust ? (envelope > 1e-30f ? by_envelope / envelope : 0.0f) : by_envelope;
}

template <int L, bool robust>
void attend_adjoint_pairs(Job& job, int layer, int task, Scratch& z) {
    const Model& m = *job.model;
    const Shape& s = m.shape;
    const Layer& y = m.layers[layer];
    Activations& t = job.state.layer[layer];
    State& g = job.state;
    const Near& near = job.near;
    constexpr int M = (L + 1) * (L + 1) - 1;
    const Small local(s, z);
    const Heading by = {z.a, z.a + s.Fp, z.b, z.b + s.Cp};
    for (int p = near.begin[task]; p < near.end[task]; ++p) {
        const int i = near.i[p], j = near.j[p];
        const float* record = near.record + size_t(p) * near.record_stride;
        const float* w = t.weights + size_t(p) * g.weight_stride;
        float* gradient = near.gradient + size_t(p) * near.gradient_stride;
        contractions(job, y, t.projected, i, j, local.codes, z);
        filters<true>(s, y, record, local.codes, z.filter, z.slope);
        for (int h = 0; h < s.H; ++h) {
            local.ij[h] = w[h] * (robust ? t.total[size_t(i) * s.Hp + h] : record[ENVELOPE]);
            local.ji[h] = w[s.H + h] * (robust ? t.total[size_t(j) * s.Hp + h] : record[ENVELOPE]);
        }
        Vec by_harmonics[M + 4];
        scalar_adjoint(m, t, g, local, i, j, z.filter, z.by_filter, by);
        vector_adjoint<L>(job, t, local, i, j, z.filter, record + HARMONICS, z.by_filter, by, by_harmonics);
        by_head(m.scalar_heads, s.H, local.ij, [&](int c) { return load(by.scalar_ij + c); });
        by_head(m.scalar_heads, s.H, local.ji, [&](int c) { return load(by.scalar_ji + c); });
        by_head(m.vector_heads, s.H, local.third, [&](int c) { return load(by.vector_ij + c); });
        by_head(m.vector_heads, s.H, local.fourth, [&](int c) { return load(by.vector_ji + c); });
        for (int h = 0; h < s.H; ++h) {
            local.ij[h] += local.third[h];
            local.ji[h] += local.fourth[h];
        }
        gradient[BY_ENVELOPE] += attention_adjoint<robust>(m, t, g, record, w, z.filter, z.by_filter, i, j, local.ij, local.ji);
        gradient[BY_DISTANCE] += product(z.by_filter, z.slope, s.W);
        contractions_adjoint(job, y, t.projected, g.g_projected, i, j, z.by_filter, local.third);
        float turned[M + 4];
        sums(by_harmonics, M, turned);
        for (int k = 0; k < M; ++k) gradient[BY_HARMONICS + k] += turned[k];
    }
}

template <bool robust>
void attend_adjoint_any(Job& job, int layer, int task, Scratch& z) {
    switch (job.model->shape.L) {
        case 1: attend_adjoint_pairs<1, robust>(job, layer, task, z); break;
        case 2: attend_adjoint_pairs<2, robust>(job, layer, task, z); break;
        case 3: attend_adjoint_pairs<3, robust>(job, layer, task, z); break;
        default: attend_adjoint_pairs<4, robust>(job, layer, task, z); break;
    }
}

inline void attend_adjoint(Job& job, int layer, int task, Scratch& z) {
    job.model->shape.robust ? attend_adjoint_any<true>(job, layer, task, z) : attend_adjoint_any<false>(job, layer, task, z);
}

}  // namespace GAQ_ISA
}  // namespace gaq
