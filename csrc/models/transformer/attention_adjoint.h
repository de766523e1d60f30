// The adjoint of attention.h by hand: filters and weights are computed again, nothing of the size of edges times channels
// kept.
//
// With a_ij = e_ij / t_i the gradient of a logit is a_ij (∂a_ij - Σ_k a_ik ∂a_ik), and the sum is known beforehand from the
// messages themselves (Workspace::g_share), so that one pass over the pairs is enough here too.
#pragma once

#include "models/transformer/attention.h"

namespace gaq::transformer::GAQ_ISA {

struct WeightGradientRows {  // gradients of the weights of both directions, by channel: scratch rows
    float *scalar_ij, *scalar_ji, *vector_ij, *vector_ji;
};

// Scalar messages: gradients of filters (stored), values (added), weights (stored by channel).
template <class S>
GAQ_INLINE void scalar_adjoint(const S& s, const Parameters& m, const Activations& t, Workspace& g,
                               const PairScratch& local, int i, int j, const float* filter, float* by_filter,
                               const WeightGradientRows& by) {
    const size_t gates = s.Fp + s.G;
    const float *vi = t.value + i * gates, *vj = t.value + j * gates;
    const float *mi = g.g_message + size_t(i) * s.Fp, *mj = g.g_message + size_t(j) * s.Fp;
    float *dvi = g.g_value + i * gates, *dvj = g.g_value + j * gates;
#pragma GCC unroll 8
    for (int c = 0; c < s.Fp; c += WIDTH) {
        const Vec ij = of_head(s, m.scalar_heads, s.Fp, local.ij, c), ji = of_head(s, m.scalar_heads, s.Fp, local.ji, c);
        const Vec f = load(filter + c), gi = load(mi + c), gj = load(mj + c);
        const Vec tij = gi * load(vj + c), tji = gj * load(vi + c);
        fma(ij, tij, ji * tji).store(by_filter + c);
        (f * tij).store(by.scalar_ij + c);
        (f * tji).store(by.scalar_ji + c);
        add_to(dvj + c, ij * f * gi);
        add_to(dvi + c, ji * f * gj);
    }
}

struct WeightGradients {  // gradients of the weights of both directions, for a vector of channels
    Vec ij, ji;
};

// One degree of the vector messages: the same, and gradients of mixed features and harmonics (added).
template <int l, class S>
GAQ_INLINE void vector_adjoint(const S& s, const Activations& t, const Workspace& g, int i, int j, int c, Vec ij, Vec ji,
                               const float* filter, const float* Y, float* by_filter, WeightGradients& by_weights,
                               Vec* by_harmonics) {
    const size_t gates = s.Fp + s.G;
    const int o = s.Fp + (l - 1) * s.Cp + c;
    const Vec own = load(filter + o), carried = load(filter + o + s.G), value_j = load(t.value + j * gates + o);
    const Vec plain_i = load(t.value + i * gates + o);
    const Vec value_i = l % 2 ? Vec(0.0f) - plain_i : plain_i;  // Y^l(-r) = (-1)^l Y^l(r)
    const Vec hi = ij * carried, hj = ji * carried, bi = ij * own * value_j, bj = ji * own * value_i;
    const size_t at_i = vector_place(l, s.M, i, s.Cp) + c, at_j = vector_place(l, s.M, j, s.Cp) + c;
    const float *ri = t.mixed + at_i, *rj = t.mixed + at_j, *vi = g.gv + at_i, *vj = g.gv + at_j;
    float *dri = g.g_mixed + at_i, *drj = g.g_mixed + at_j;
    Vec si, sj, ui, uj;
#pragma GCC unroll 9
    for (int k = 0; k <= 2 * l; ++k) {
        const Vec h(Y[first_component(l) + k]), gi = load(vi + k * s.Cp), gj = load(vj + k * s.Cp);
        si = fma(gi, h, si);
        sj = fma(gj, h, sj);
        ui = fma(gi, load(rj + k * s.Cp), ui);
        uj = fma(gj, load(ri + k * s.Cp), uj);
        Vec& rotated = by_harmonics[first_component(l) + k];
        rotated = fma(gi, bi, fma(gj, bj, rotated));
        fma(hi, gi, load(drj + k * s.Cp)).store(drj + k * s.Cp);
        fma(hj, gj, load(dri + k * s.Cp)).store(dri + k * s.Cp);
    }
    fma(ij * si, value_j, ji * sj * value_i).store(by_filter + o);
    fma(ij, ui, ji * uj).store(by_filter + o + s.G);
    by_weights.ij = by_weights.ij + fma(own * si, value_j, carried * ui);
    by_weights.ji = by_weights.ji + fma(own * sj, value_i, carried * uj);
    add_to(g.g_value + j * gates + o, ij * own * si);
    add_to(g.g_value + i * gates + o, l % 2 ? Vec(0.0f) - ji * own * sj : ji * own * sj);
}

struct SavedWeights {  // of one pair, as attention() left it
    const float *ij, *ji, *b;
};

// From the gradients of the weights, by head in `ij` and `ji`, to those of filters, queries, keys and envelope.
template <bool robust, class S>
GAQ_INLINE float attention_weights_adjoint(const S& s, const Parameters& m, const Activations& t, Workspace& g,
                                           const float* record, const SavedWeights& w, const float* filter,
                                           float* by_filter, int i, int j, float* ij, float* ji) {
    const size_t at_i = size_t(i) * s.Fp, at_j = size_t(j) * s.Fp;
    float* part = by_filter + s.Fp + 2 * s.G;
    const float envelope = record[ENVELOPE];
    float by_envelope = 0.0f;
    if (robust) {
        Vec total;
        for (int h = 0; h < s.Hp; h += WIDTH) {
            const int n = lanes_left(s.H, h);
            const size_t of_i = size_t(i) * s.Hp + h, of_j = size_t(j) * s.Hp + h;
            const Vec b = first(w.b + h, n);
            const Vec dij = first(w.ij + h, n) * first(t.total + of_i, n) * (first(ij + h, n) - first(g.g_share + of_i, n));
            const Vec dji = first(w.ji + h, n) * first(t.total + of_j, n) * (first(ji + h, n) - first(g.g_share + of_j, n));
            dij.store(ij + h);
            dji.store(ji + h);
            total = total + (dij + dji);
            ((dij + dji) * (Vec(1.0f) - b * b)).store(part + h);
        }
        by_envelope = sum(total);
    } else {
        const float scale = envelope / __builtin_sqrtf(float(m.shape.F) / float(s.H));
        for (int h = 0; h < s.H; ++h) {
            by_envelope += ij[h] * w.ij[h] + ji[h] * w.ji[h];
            ij[h] *= scale;
            ji[h] *= scale * record[BACK];
        }
    }
#pragma GCC unroll 8
    for (int c = 0; c < s.Fp; c += WIDTH) {
        const Vec qi = load(t.query + at_i + c), qj = load(t.query + at_j + c);
        const Vec ki = load(t.key + at_i + c), kj = load(t.key + at_j + c);
        Vec dij = of_head(s, m.scalar_heads, s.Fp, ij, c), dji = of_head(s, m.scalar_heads, s.Fp, ji, c);
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

template <bool robust, class S>
GAQ_INLINE void pair_adjoint(const S& s, Arguments& args, int layer, int p, const SavedWeights& w, const float* filter,
                             const PairScratch& local, const WeightGradientRows& by, float* by_filter) {
    const Parameters& m = *args.parameters;
    const Activations& t = args.work.layer[layer];
    Workspace& g = args.work;
    const int i = args.pairs.i[p], j = args.pairs.j[p];
    const float* record = args.pairs.record + size_t(p) * args.pairs.record_stride;
    float* gradient = args.pairs.gradient + size_t(p) * args.pairs.gradient_stride;
    for (int h = 0; h < s.H; h += WIDTH) {
        const int n = lanes_left(s.H, h);
        const Vec envelope(record[ENVELOPE]);
        (first(w.ij + h, n) * (robust ? first(t.total + size_t(i) * s.Hp + h, n) : envelope)).store(local.ij + h);
        (first(w.ji + h, n) * (robust ? first(t.total + size_t(j) * s.Hp + h, n) : envelope)).store(local.ji + h);
    }
    Vec by_harmonics[most_components<S>()];
    scalar_adjoint(s, m, t, g, local, i, j, filter, by_filter, by);
    const float* Y = record + HARMONICS;
#pragma GCC unroll 4
    for (int c = 0; c < s.Cp; c += WIDTH) {
        const Vec ij = of_head(s, m.vector_heads, s.Cp, local.ij, c), ji = of_head(s, m.vector_heads, s.Cp, local.ji, c);
        WeightGradients by_weights;
        vector_adjoint<1>(s, t, g, i, j, c, ij, ji, filter, Y, by_filter, by_weights, by_harmonics);
        if (s.L >= 2) vector_adjoint<2>(s, t, g, i, j, c, ij, ji, filter, Y, by_filter, by_weights, by_harmonics);
        if (s.L >= 3) vector_adjoint<3>(s, t, g, i, j, c, ij, ji, filter, Y, by_filter, by_weights, by_harmonics);
        if (s.L >= 4) vector_adjoint<4>(s, t, g, i, j, c, ij, ji, filter, Y, by_filter, by_weights, by_harmonics);
        by_weights.ij.store(by.vector_ij + c);
        by_weights.ji.store(by.vector_ji + c);
    }
    sum_scalars_and_vectors(
        s, m, local.ij, local.spare, [&](int c) { return load(by.scalar_ij + c); },
        [&](int c) { return load(by.vector_ij + c); });
    sum_scalars_and_vectors(
        s, m, local.ji, local.spare, [&](int c) { return load(by.scalar_ji + c); },
        [&](int c) { return load(by.vector_ji + c); });
    gradient[BY_ENVELOPE] +=
        attention_weights_adjoint<robust>(s, m, t, g, record, w, filter, by_filter, i, j, local.ij, local.ji);
    gradient[BY_DISTANCE] +=
        filter_adjoint(s, m.layers[layer], t.projected, g.g_projected, i, j, record, by_filter, local.spare);
    add_sums(by_harmonics, s.M, gradient + BY_HARMONICS);
}

template <bool robust, class S>
void attention_adjoint_pairs(const S& s, Arguments& args, int layer, int task, Scratch& z) {
    const Layer& y = args.parameters->layers[layer];
    const Activations& t = args.work.layer[layer];
    const Pairs& pairs = args.pairs;
    const PairScratch local(s, z);
    const WeightGradientRows by = {z.a, z.a + s.Fp, z.b, z.b + s.Cp};
    for (int p = pairs.begin[task]; p < pairs.end[task]; p += PAIR_BATCH) {
        const int n = pairs.end[task] - p < PAIR_BATCH ? pairs.end[task] - p : PAIR_BATCH, heads = n * s.H;
        const float* filter = t.filters ? t.filters + size_t(p) * s.W : z.filter;
        if (!t.filters) {
            contractions(s, y, t.projected, pairs, p, n, local.codes, z);
            filters(s, y, pairs, p, n, local.codes, 0, s.W, z.filter);
        }
        const float* w = t.weights + size_t(p) * args.work.weight_stride;
        for (int q = 0; q < n; ++q, w += s.H)
            pair_adjoint<robust>(s, args, layer, p + q, SavedWeights{w, w + heads, w + 2 * heads}, filter + size_t(q) * s.W,
                                 local, by, z.by_filter);
    }
}

inline void attention_adjoint(Arguments& args, int layer, int task, Scratch& z) {
    const Shape& shape = args.parameters->shape;
    if (shape.robust) with_shape(shape, [&](const auto& s) { attention_adjoint_pairs<true>(s, args, layer, task, z); });
    else attention_adjoint_pairs<false>(shape, args, layer, task, z);
}

}  // namespace gaq::transformer::GAQ_ISA
