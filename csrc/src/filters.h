// The filter of a pair, f = table(r) + W codes(c), with c the contractions of the vector features; and its adjoint.
//
// Tables are cubic splines: four rows around the distance, weighted by four numbers that are the same for all channels. One
// filter serves both directions of a pair, for c is symmetric.
#pragma once

#include "shapes.h"

namespace gaq {
namespace GAQ_ISA {

// f (and its derivative by the distance) of N vectors of channels from o on.
template <int N, bool values, bool slopes>
GAQ_INLINE void table_part(const float* knot, const float* record, int width, int o, Vec* f, Vec* df) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
        const Vec w(record[VALUE + k]), d(record[SLOPE + k]);
        const float* row = knot + size_t(k) * width + o;
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
            const Vec t = load(row + n * WIDTH);
            if (values) f[n] = k ? fma(w, t, f[n]) : w * t;
            if (slopes) df[n] = k ? fma(d, t, df[n]) : d * t;
        }
    }
}

template <int N, bool values, bool slopes, class S>
GAQ_INLINE void filter_part(const S& s, const float* knot, const float* record, const float* codes,
                            const float* contract, int o, float* filter, float* slope) {
    Vec f[N], df[N];
    table_part<N, values, slopes>(knot, record, s.W, o, f, df);
    const float* row = contract + o;
#pragma GCC unroll 4
    for (int l = 0; values && l < s.L; ++l)
#pragma GCC unroll 4
        for (int h = 0; h < s.H; ++h, row += s.W) {
            const Vec c(codes[l * s.Hp + h]);
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) f[n] = fma(c, load(row + n * WIDTH), f[n]);
        }
    for (int n = 0; n < N; ++n) {
        if (values) f[n].store(filter + o + n * WIDTH);
        if (slopes) df[n].store(slope + o + n * WIDTH);
    }
}

template <bool values, bool slopes, class S>
GAQ_INLINE void filters(const S& s, const Layer& y, const float* record, const float* codes, float* filter,
                        float* slope) {
    int32_t knot;
    __builtin_memcpy(&knot, record + KNOT, sizeof knot);
    const float* rows = y.table + size_t(knot) * s.W;
    int o = 0;
    for (; o + 4 * WIDTH <= s.W; o += 4 * WIDTH)
        filter_part<4, values, slopes>(s, rows, record, codes, y.contract, o, filter, slope);
    for (; o < s.W; o += WIDTH) filter_part<1, values, slopes>(s, rows, record, codes, y.contract, o, filter, slope);
}

// What a contraction sees of i and j, and the codes of c_lh = sum_m (P_j - P_i)², rows of Hp for each degree.
template <class S>
GAQ_INLINE void contractions(const S& s, const Layer& y, const double* projected, int i, int j, float* codes, Scratch& z) {
    const Linear& map = y.contraction;
    const Vec high(map.qmax), low(-map.qmax);
    const int lines = whole_lines(s.H);
    int64_t clipped = 0;
#pragma GCC unroll 4
    for (int l = 1; l <= s.L; ++l) {
        const double* a = projected + vector_place(l, s.M, i, lines);
        const double* b = projected + vector_place(l, s.M, j, lines);
        float* of_degree = codes + (l - 1) * s.Hp;
        for (int h = 0; h < lines; h += WIDTH) {
            Vec t = square(b + h, a + h, lines, 2 * l + 1, lines - h);
            if (map.bits) {
                t = t / Divisor(load(map.step + (l - 1) * s.Hp + h), load(map.inverse + (l - 1) * s.Hp + h));
                clipped += count(outside(t, high));
                t = coded(t, low, high);
            }
            t.store(of_degree + h);
        }
    }
    if (map.bits) {
        z.clipped[map.quantizer] += uint64_t(clipped);
        z.seen[map.quantizer] += uint64_t(s.L * s.H);
    }
}

// total[k] = sum_o df[o] W[k][o] for K rows of W, the lanes still apart.
template <int K>
GAQ_INLINE void transposed_part(const float* df, const float* rows, int width, Vec* total) {
    for (int o = 0; o < width; o += WIDTH) {
        const Vec d = load(df + o);
#pragma GCC unroll 16
        for (int k = 0; k < K; ++k) total[k] = fma(d, load(rows + size_t(k) * width + o), total[k]);
    }
}

// The gradient of the contractions: rows of Hp for each degree.
template <class S>
GAQ_INLINE void contracted(const S& s, const float* contract, const float* by_filter, float* by) {
    if constexpr (is_fixed<S>) {
        if constexpr (S::H == 4) {
            Vec total[4 * S::L];
            transposed_part<4 * S::L>(by_filter, contract, S::W, total);
            for (int l = 0; l < S::L; ++l) sum4_filled(total + 4 * l, by + l * S::Hp);
            return;
        }
    }
    for (int l = 0; l < s.L; ++l)
        for (int h = 0; h < s.Hp; ++h) {
            Vec total;
            if (h < s.H) transposed_part<1>(by_filter, contract + size_t(l * s.H + h) * s.W, s.W, &total);
            by[l * s.Hp + h] = sum(total);
        }
}

// From the gradient of a filter to those of the projected features of i and j.
template <class S>
GAQ_INLINE void contractions_adjoint(const S& s, const Layer& y, const double* projected, float* g, int i, int j,
                                     const float* by_filter, float* by) {
    const Linear& map = y.contraction;
    const Vec bound(map.qmax);
    const int lines = whole_lines(s.H);
    contracted(s, y.contract, by_filter, by);
#pragma GCC unroll 4
    for (int l = 1; l <= s.L; ++l) {
        const size_t at_i = vector_place(l, s.M, i, s.Hp), at_j = vector_place(l, s.M, j, s.Hp);
        const double* a = projected + vector_place(l, s.M, i, lines);
        const double* b = projected + vector_place(l, s.M, j, lines);
        for (int h = 0; h < lines; h += WIDTH) {
            Vec d[2 * MAX_DEGREE + 1], total, part = load(by + (l - 1) * s.Hp + h);
#pragma GCC unroll 9
            for (int m = 0; m <= 2 * l; ++m) {
                d[m] = difference(b + m * lines + h, a + m * lines + h, lines - h);
                total = fma(d[m], d[m], total);
            }
            if (map.bits) {
                const Vec inverse = load(map.inverse + (l - 1) * s.Hp + h);
                part = select(outside(total * inverse, bound), Vec(), part * inverse);
            }
            part = part + part;
#pragma GCC unroll 9
            for (int m = 0; m <= 2 * l; ++m) {
                add_to(g + at_j + m * s.Hp + h, part * d[m]);
                add_to(g + at_i + m * s.Hp + h, Vec(0.0f) - part * d[m]);
            }
        }
    }
}

GAQ_INLINE float product(const float* a, const float* b, int width) {
    Vec total;
    for (int o = 0; o < width; o += WIDTH) total = fma(load(a + o), load(b + o), total);
    return sum(total);
}

}  // namespace GAQ_ISA
}  // namespace gaq
