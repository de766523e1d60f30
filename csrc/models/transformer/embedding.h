// First features: x_i = A[Z_i] + sum_j f B[Z_j], v_i^l = sum_j g_l B_l[Z_j] Y^l; filters and envelope are one table.
#pragma once

#include "models/transformer/filters.h"

namespace gaq::transformer::GAQ_ISA {

inline void embed_species(Arguments& args, int begin, int end) {
    const Shape& s = args.parameters->shape;
    Activations& t = args.work.layer[0];
    for (int i = begin; i < end; ++i)
        __builtin_memcpy(t.x + size_t(i) * s.Fp, args.parameters->own + size_t(args.schedule.species[i]) * s.Fp,
                         s.Fp * sizeof(float));
    clear(t.v + size_t(begin) * s.M * s.Cp, size_t(end - begin) * s.M * s.Cp);
}

template <class S>
GAQ_INLINE void embed_pairs(const S& s, Arguments& args, int task) {
    const Parameters& m = *args.parameters;
    const Pairs& pairs = args.pairs;
    Activations& t = args.work.layer[0];
    const int width = s.Fp + s.G;
    for (int p = pairs.begin[task]; p < pairs.end[task]; ++p) {
        const int i = pairs.i[p], j = pairs.j[p];
        const float* record = pairs.record + size_t(p) * pairs.record_stride;
        const float* knot = knot_of(m.embedding, record, width);
        const float *Bi = m.other + size_t(args.schedule.species[i]) * width,
                    *Bj = m.other + size_t(args.schedule.species[j]) * width;
        const Vec back(record[BACK]);
        Vec f;
#pragma GCC unroll 4
        for (int c = 0; c < s.Fp; c += WIDTH) {
            table_part<1, false>(knot, record, width, c, &f, nullptr);
            add_to(t.x + size_t(i) * s.Fp + c, f * load(Bj + c));
            add_to(t.x + size_t(j) * s.Fp + c, back * f * load(Bi + c));
        }
#pragma GCC unroll 4
        for (int l = 1; l <= s.L; ++l)
#pragma GCC unroll 2
            for (int c = 0; c < s.Cp; c += WIDTH) {
                const int o = s.Fp + (l - 1) * s.Cp + c;
                table_part<1, false>(knot, record, width, o, &f, nullptr);
                const Vec gi = f * load(Bj + o), gj = (l % 2 ? Vec(0.0f) - back : back) * f * load(Bi + o);
                float* vi = t.v + vector_place(l, s.M, i, s.Cp) + c;
                float* vj = t.v + vector_place(l, s.M, j, s.Cp) + c;
#pragma GCC unroll 9
                for (int k = 0; k <= 2 * l; ++k) {
                    const Vec h(record[HARMONICS + first_component(l) + k]);
                    fma(gi, h, load(vi + k * s.Cp)).store(vi + k * s.Cp);
                    fma(gj, h, load(vj + k * s.Cp)).store(vj + k * s.Cp);
                }
            }
    }
}

inline void embed_neighbours(Arguments& args, int task, Scratch&) {
    with_shape(args.parameters->shape, [&](const auto& s) { embed_pairs(s, args, task); });
}

template <class S>
GAQ_INLINE void embed_adjoint_pairs(const S& s, Arguments& args, int task) {
    const Parameters& m = *args.parameters;
    const Pairs& pairs = args.pairs;
    const Workspace& g = args.work;
    const int width = s.Fp + s.G;
    for (int p = pairs.begin[task]; p < pairs.end[task]; ++p) {
        const int i = pairs.i[p], j = pairs.j[p];
        const float* record = pairs.record + size_t(p) * pairs.record_stride;
        const float* knot = knot_of(m.embedding, record, width);
        float* gradient = pairs.gradient + size_t(p) * pairs.gradient_stride;
        const float *Bi = m.other + size_t(args.schedule.species[i]) * width,
                    *Bj = m.other + size_t(args.schedule.species[j]) * width;
        const Vec back(record[BACK]);
        Vec f, df, by_distance, by_harmonics[most_components<S>()];
#pragma GCC unroll 4
        for (int c = 0; c < s.Fp; c += WIDTH) {
            table_part<1, true>(knot, record, width, c, &f, &df);
            const Vec gi = load(g.gx + size_t(i) * s.Fp + c), gj = back * load(g.gx + size_t(j) * s.Fp + c);
            by_distance = fma(fma(gi, load(Bj + c), gj * load(Bi + c)), df, by_distance);
        }
#pragma GCC unroll 4
        for (int l = 1; l <= s.L; ++l)
#pragma GCC unroll 2
            for (int c = 0; c < s.Cp; c += WIDTH) {
                const int o = s.Fp + (l - 1) * s.Cp + c;
                table_part<1, true>(knot, record, width, o, &f, &df);
                const Vec bi = load(Bj + o), bj = (l % 2 ? Vec(0.0f) - back : back) * load(Bi + o);
                const float* vi = g.gv + vector_place(l, s.M, i, s.Cp) + c;
                const float* vj = g.gv + vector_place(l, s.M, j, s.Cp) + c;
                Vec total;
#pragma GCC unroll 9
                for (int k = 0; k <= 2 * l; ++k) {
                    const int q = first_component(l) + k;
                    const Vec part = fma(load(vi + k * s.Cp), bi, load(vj + k * s.Cp) * bj);
                    total = fma(part, Vec(record[HARMONICS + q]), total);
                    by_harmonics[q] = fma(part, f, by_harmonics[q]);
                }
                by_distance = fma(total, df, by_distance);
            }
        gradient[BY_DISTANCE] += sum(by_distance);
        add_sums(by_harmonics, s.M, gradient + BY_HARMONICS);
    }
}

inline void embed_neighbours_adjoint(Arguments& args, int task, Scratch&) {
    with_shape(args.parameters->shape, [&](const auto& s) { embed_adjoint_pairs(s, args, task); });
}

}  // namespace gaq::transformer::GAQ_ISA
