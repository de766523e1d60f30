// Messages between the atoms of a pair, weighted by attention; both directions at once.
//
// Weights stay without their denominator, which is divided out when all neighbours have spoken, so that one pass over the
// pairs is enough. A few pairs are worked on together, and what the backward pass needs is kept for them at
// Activations::weights, H values for each pair:
//   robust:    e_ij = φ exp(ℓ_ij) of all, e_ji of all, tanh b of all
//   so3krates: q_i (f k_j) / sqrt(F/H) of all, the same for ji: to be multiplied by φ
#pragma once

#include "models/transformer/filters.h"
#include "simd/functions.h"

namespace gaq::transformer::GAQ_ISA {

// Places in Scratch::pair. Of PAIR_BATCH pairs: codes of contractions; then, heads one after the other, the weights of both
// directions, the attention's own filters, envelope and `back`. Of one pair: gradients of contractions, or sums by head.
struct PairScratch {
    float *codes, *ij, *ji, *part, *envelope, *back, *spare;
    template <class S>
    GAQ_INLINE PairScratch(const S& s, Scratch& z)
        : codes(z.pair), ij(codes + PAIR_BATCH * s.L * s.Hp), ji(ij + PAIR_BATCH * s.Hp), part(ji + PAIR_BATCH * s.Hp),
          envelope(part + PAIR_BATCH * s.Hp), back(envelope + PAIR_BATCH * s.Hp), spare(back + PAIR_BATCH * s.Hp) {}
};

// Attention of n pairs from p on: fill PairScratch::ij and ji with the weights to be used, and `w` with what is kept.
template <bool robust, class S>
GAQ_INLINE void attention_weights(const S& s, const Parameters& m, const Activations& t, const Pairs& pairs, int p, int n,
                                  const float* filter, const PairScratch& local, float* w) {
    for (int q = 0; q < n; ++q) {  // in this order, for sums by head may write beyond their heads
        const size_t i = size_t(pairs.i[p + q]) * s.Fp, j = size_t(pairs.j[p + q]) * s.Fp;
        const float *qi = t.query + i, *qj = t.query + j, *ki = t.key + i, *kj = t.key + j;
        const float *part = filter + size_t(q) * s.W + s.Fp + 2 * s.G,
                    *record = pairs.record + size_t(p + q) * pairs.record_stride;
        const int place = q * s.H;
        if (robust) {
            sum_heads(s, m.scalar_heads, s.Fp, local.ij + place, [&](int c) { return load(qi + c) * load(kj + c); });
            sum_heads(s, m.scalar_heads, s.Fp, local.ji + place, [&](int c) { return load(qj + c) * load(ki + c); });
        } else {
            sum_heads(s, m.scalar_heads, s.Fp, local.ij + place,
                      [&](int c) { return load(qi + c) * load(kj + c) * load(part + c); });
            sum_heads(s, m.scalar_heads, s.Fp, local.ji + place,
                      [&](int c) { return load(qj + c) * load(ki + c) * load(part + c); });
        }
        for (int h = 0; h < s.H; ++h) {
            if (robust) local.part[place + h] = part[h];
            local.envelope[place + h] = record[ENVELOPE];
            local.back[place + h] = record[BACK];
        }
    }
    const int heads = n * s.H;
    const Vec scale(1.0f / __builtin_sqrtf(float(m.shape.F) / float(s.H)));
    for (int h = 0; h < heads; h += WIDTH) {
        const int count = lanes_left(heads, h);
        const Vec envelope = load(local.envelope + h), back = load(local.back + h);
        Vec ij = load(local.ij + h), ji = load(local.ji + h);
        if (robust) {
            const Vec b = tanh(load(local.part + h));
            ij = envelope * exp(ij + b);
            ji = back * envelope * exp(ji + b);
            store_first(w + 2 * heads + h, count, b);
        } else {
            ij = ij * scale;
            ji = ji * scale * back;
        }
        store_first(w + h, count, ij);
        store_first(w + heads + h, count, ji);
        (robust ? ij : ij * envelope).store(local.ij + h);
        (robust ? ji : ji * envelope).store(local.ji + h);
    }
    for (int q = 0; robust && q < n; ++q)
        for (int h = 0; h < s.H; h += WIDTH) {
            const int place = q * s.H + h, count = lanes_left(s.H, h);
            add_to(t.total + size_t(pairs.i[p + q]) * s.Hp + h, first(local.ij + place, count));
            add_to(t.total + size_t(pairs.j[p + q]) * s.Hp + h, first(local.ji + place, count));
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

template <class S>
GAQ_INLINE void messages(const S& s, const Parameters& m, Activations& t, int i, int j, const float* record,
                         const float* filter, const float* weights_ij, const float* weights_ji) {
    const float *vi = t.value + size_t(i) * (s.Fp + s.G), *vj = t.value + size_t(j) * (s.Fp + s.G);
    float *xi = t.message + size_t(i) * s.Fp, *xj = t.message + size_t(j) * s.Fp;
#pragma GCC unroll 8
    for (int c = 0; c < s.Fp; c += WIDTH) {
        const Vec f = load(filter + c);
        add_to(xi + c, of_head(s, m.scalar_heads, s.Fp, weights_ij, c) * f * load(vj + c));
        add_to(xj + c, of_head(s, m.scalar_heads, s.Fp, weights_ji, c) * f * load(vi + c));
    }
    const float* Y = record + HARMONICS;
    for (int c = 0; c < s.Cp; c += WIDTH) {
        const Vec ij = of_head(s, m.vector_heads, s.Cp, weights_ij, c),
                  ji = of_head(s, m.vector_heads, s.Cp, weights_ji, c);
        vector_messages<1>(s, t, i, j, c, ij, ji, filter, Y);
        if (s.L >= 2) vector_messages<2>(s, t, i, j, c, ij, ji, filter, Y);
        if (s.L >= 3) vector_messages<3>(s, t, i, j, c, ij, ji, filter, Y);
        if (s.L >= 4) vector_messages<4>(s, t, i, j, c, ij, ji, filter, Y);
    }
}

template <bool robust, class S>
void attention_pairs(const S& s, Arguments& args, int layer, int task, Scratch& z) {
    const Parameters& m = *args.parameters;
    const Layer& y = m.layers[layer];
    Activations& t = args.work.layer[layer];
    const Pairs& pairs = args.pairs;
    const PairScratch local(s, z);
    const int own = s.Fp + 2 * s.G;
    for (int p = pairs.begin[task]; p < pairs.end[task]; p += PAIR_BATCH) {
        const int n = pairs.end[task] - p < PAIR_BATCH ? pairs.end[task] - p : PAIR_BATCH;
        float* filter = t.filters ? t.filters + size_t(p) * s.W : z.filter;
        contractions(s, y, t.projected, pairs, p, n, local.codes, z);
        filters(s, y, pairs, p, n, local.codes, own, s.W, filter);
        attention_weights<robust>(s, m, t, pairs, p, n, filter, local, t.weights + size_t(p) * args.work.weight_stride);
        filters(s, y, pairs, p, n, local.codes, 0, own, filter);
        for (int q = 0; q < n; ++q)
            messages(s, m, t, pairs.i[p + q], pairs.j[p + q], pairs.record + size_t(p + q) * pairs.record_stride,
                     filter + size_t(q) * s.W, local.ij + q * s.H, local.ji + q * s.H);
    }
}

inline void attention(Arguments& args, int layer, int task, Scratch& z) {
    const Shape& shape = args.parameters->shape;
    if (shape.robust) with_shape(shape, [&](const auto& s) { attention_pairs<true>(s, args, layer, task, z); });
    else attention_pairs<false>(shape, args, layer, task, z);
}

}  // namespace gaq::transformer::GAQ_ISA
