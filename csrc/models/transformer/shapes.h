// Shapes that are known when this is compiled, with the members of Shape: kernels of pairs are made for these too, because
// loops of known length cost half. What they compute is the same.
#pragma once

#include "models/transformer/nodes.h"

namespace gaq::transformer::GAQ_ISA {

template <int scalars, int vectors, int degree, int heads>
struct FixedShape {
    static constexpr int F = scalars, C = vectors, L = degree, H = heads, M = (degree + 1) * (degree + 1) - 1;
    static constexpr int Fp = F, Cp = C, Hp = padded(heads), G = degree * vectors, A = Hp, W = Fp + 2 * G + A;

    static_assert(heads == 4, "sums of four heads fill a vector");
    static_assert((F / H) % LANES == 0 || LANES % (F / H) == 0, "heads are whole vectors, or equal parts of one");
    static_assert((C / H) % LANES == 0 || LANES % (C / H) == 0, "heads are whole vectors, or equal parts of one");

    static bool fits(const Shape& s) { return s.robust && s.F == F && s.C == C && s.L == L && s.H == H; }
};

template <class S>
constexpr bool is_fixed = true;
template <>
constexpr bool is_fixed<Shape> = false;

template <class S>
constexpr int most_components() {  // and room for the next multiple of four
    if constexpr (is_fixed<S>) return (S::M + 3) / 4 * 4;
    else return MAX_COMPONENTS + 4;
}

// Call work(Size<l>) for every degree l.
template <class S, class Work>
GAQ_INLINE void each_degree(const S& s, const Work& work) {
    work(Size<1>());
    if (s.L >= 2) work(Size<2>());
    if (s.L >= 3) work(Size<3>());
    if (s.L >= 4) work(Size<4>());
}

// The value of the head that each of a vector of channels belongs to, of `width` channels in all.
template <class S>
GAQ_INLINE Vec of_head(const S& s, const Heads& heads, int width, const float* values, int channel) {
    if (is_fixed<S> && width / s.H % WIDTH == 0) return Vec(values[channel / (width / s.H)]);
    return lookup(values, heads.of_channel + channel, s.H);
}

// The channels of one head, summed up to the lanes of a vector, of `width` channels in all.
template <class S, class Term>
GAQ_INLINE Vec head_row(const S& s, const Heads& heads, int width, int h, Term term) {
    const int each = width / s.H;
    Vec total;
    if (each % WIDTH == 0) {
#pragma GCC unroll 16
        for (int c = 0; c < each; c += WIDTH) total = total + term(h * each + c);
    } else {  // several heads in one vector, which then has a segment for each
        total = term(h * each / WIDTH * WIDTH) * load(heads.member + h * LANES + h * each % LANES / WIDTH * WIDTH);
    }
    return total;
}

// out[h] = sum over the channels of each head of term(channel); as sum_by_head.
template <class S, class Term>
GAQ_INLINE void sum_heads(const S& s, const Heads& heads, int width, float* out, Term term) {
    if constexpr (is_fixed<S>) {
        Vec rows[4];
#pragma GCC unroll 4
        for (int h = 0; h < S::H; ++h) rows[h] = head_row(s, heads, width, h, term);
        sum4_filled(rows, out);
    } else {
        sum_by_head(heads, s.H, out, term);
    }
}

// The sum of both over the channels of each head, scalars and vectors; `spare` has room for as much as `out`.
template <class S, class Scalars, class Vectors>
GAQ_INLINE void sum_scalars_and_vectors(const S& s, const Parameters& m, float* out, float* spare, Scalars scalars,
                                        Vectors vectors) {
    if constexpr (is_fixed<S>) {
        Vec rows[4];
#pragma GCC unroll 4
        for (int h = 0; h < S::H; ++h)
            rows[h] = head_row(s, m.scalar_heads, S::Fp, h, scalars) + head_row(s, m.vector_heads, S::Cp, h, vectors);
        sum4_filled(rows, out);
    } else {
        sum_by_head(m.scalar_heads, s.H, out, scalars);
        sum_by_head(m.vector_heads, s.H, spare, vectors);
        for (int h = 0; h < s.H; h += WIDTH) add_to(out + h, load(spare + h));
    }
}

// Run `work(shape)` with the fixed shape that fits, or with the model's.
template <class Work>
GAQ_INLINE void with_shape(const Shape& s, const Work& work) {
    using Standard = FixedShape<64, 32, 2, 4>;
    using Slim = FixedShape<64, 16, 2, 4>;
    using Wide = FixedShape<128, 32, 2, 4>;
    if (Standard::fits(s)) work(Standard());
    else if (Slim::fits(s)) work(Slim());
    else if (Wide::fits(s)) work(Wide());
    else work(s);
}

}  // namespace gaq::transformer::GAQ_ISA
