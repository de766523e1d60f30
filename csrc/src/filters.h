// The filter of a pair, f = table(r) + W codes(c), with c the contractions of the vector features; and its adjoint.
//
// Tables are quintic Hermite: six rows around the distance (value, slope and curvature at two knots), weighted by six
// numbers that are the same for all channels. One filter serves both directions of a pair, for c is symmetric.
#pragma once

#include "shapes.h"

namespace gaq {
namespace GAQ_ISA {

// f (and its derivative by the distance) of N vectors of channels from o on.
template <int N, bool slopes>
GAQ_INLINE void table_part(const float* knot, const float* record, int width, int o, Vec* f, Vec* df) {
#pragma GCC unroll 6
    for (int k = 0; k < 6; ++k) {
        const Vec w(record[VALUE + k]), d(record[SLOPE + k]);
        const float* row = knot + size_t(k) * width + o;
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
            const Vec t = load(row + n * WIDTH);
            f[n] = k ? fma(w, t, f[n]) : w * t;
            if (slopes) df[n] = k ? fma(d, t, df[n]) : d * t;
        }
    }
}

template <int N, bool slopes, class S>
GAQ_INLINE void filter_part(const S& s, const float* knot, const float* record, const float* codes,
                            const float* contract, int o, float* filter, float* slope) {
    Vec f[N], df[N];
    table_part<N, slopes>(knot, record, s.W, o, f, df);
    const float* row = contract + o;
#pragma GCC unroll 4
    for (int l = 0; l < s.L; ++l)
#pragma GCC unroll 4
        for (int h = 0; h < s.H; ++h, row += s.W) {
            const Vec c(codes[l * s.Hp + h]);
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) f[n] = fma(c, load(row + n * WIDTH), f[n]);
        }
    for (int n = 0; n < N; ++n) {
        f[n].store(filter + o + n * WIDTH);
        if (slopes) df[n].store(slope + o + n * WIDTH);
    }
}

template <bool slopes, class S>
GAQ_INLINE void filters(const S& s, const Layer& y, const float* record, const float* codes, float* filter,
                        float* slope) {
    int32_t knot;
    __builtin_memcpy(&knot, record + KNOT, sizeof knot);
    const float* rows = y.table + size_t(knot) * 3 * s.W;
    int o = 0;
    for (; o + 4 * WIDTH <= s.W; o += 4 * WIDTH)
        filter_part<4, slopes>(s, rows, record, codes, y.contract, o, filter, slope);
    for (; o < s.W; o += WIDTH) filter_part<1, slopes>(s, rows, record, codes, y.contract, o, filter, slope);
}

// What a contraction sees of i and j, and the codes of c_lh = sum_m (P_j - P_i)², rows of Hp for each degree.
template <class S>
GAQ_INLINE void contractions(const S& s, const Layer& y, const double* projected, int i, int j, float* codes, Scratch& z) {
    const Linear& map = y.contraction;
    const Vec high(map.qmax), low(-map.qmax);
    const int lines = whole_lines(s.H);
    int clipped = 0;
#pragma GCC unroll 4
    for (int l = 1; l <= s.L; ++l) {
        const double* a = projected + vector_place(l, s.M, i, lines);
        const double* b = projected + vector_place(l, s.M, j, lines);
        float* of_degree = codes + (l - 1) * s.Hp;
        for (int h = 0; h < lines; h += 8) {
            double total[8] = {};
#pragma GCC unroll 9
            for (int k = 0; k <= 2 * l; ++k)
                for (int n = 0; n < 8; ++n) {
                    const double d = b[k * lines + h + n] - a[k * lines + h + n];
                    total[n] += d * d;
                }
            for (int n = 0; n < 8; ++n) of_degree[h + n] = float(total[n]);
        }
        for (int h = lines; h < s.Hp; ++h) of_degree[h] = 0.0f;
        for (int h = 0; map.bits && h < s.Hp; h += WIDTH) {
            const Vec t = load(of_degree + h) / load(map.step + (l - 1) * s.Hp + h);
            clipped += count(outside(t, high));
            coded(t, low, high).store(of_degree + h);
        }
    }
    if (map.bits) {
        z.clipped[map.quantizer] += uint64_t(clipped);
        z.seen[map.quantizer] += uint64_t(s.L * s.H);
    }
}

// by[k] = sum_o df[o] W[k][o] for K rows of W.
template <int K>
GAQ_INLINE void transposed_part(const float* df, const float* rows, int width, float* by) {
    Vec total[K + 4];
    for (int o = 0; o < width; o += WIDTH) {
        const Vec d = load(df + o);
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) total[k] = fma(d, load(rows + size_t(k) * width + o), total[k]);
    }
    sums(total, K, by);
}

// From the gradient of a filter to those of the projected features of i and j.
template <class S>
GAQ_INLINE void contractions_adjoint(const S& s, const Layer& y, const double* projected, float* g, int i, int j,
                                     const float* by_filter, float* by) {
    const Linear& map = y.contraction;
    const Vec bound(map.qmax);
    const int inputs = s.L * s.H, lines = whole_lines(s.H);
    float sums_of[MAX_DEGREE * LANES + 8], *all = inputs + 8 <= MAX_DEGREE * LANES ? sums_of : by + s.Hp;
    int k = 0;
    for (; k + 8 <= inputs; k += 8) transposed_part<8>(by_filter, y.contract + size_t(k) * s.W, s.W, all + k);
    for (; k + 4 <= inputs; k += 4) transposed_part<4>(by_filter, y.contract + size_t(k) * s.W, s.W, all + k);
    for (; k < inputs; ++k) transposed_part<1>(by_filter, y.contract + size_t(k) * s.W, s.W, all + k);
#pragma GCC unroll 4
    for (int l = 1; l <= s.L; ++l) {
        for (int h = 0; h < s.H; ++h) by[h] = all[(l - 1) * s.H + h];
        for (int h = s.H; h < s.Hp; ++h) by[h] = 0.0f;
        const size_t at_i = vector_place(l, s.M, i, s.Hp), at_j = vector_place(l, s.M, j, s.Hp);
        const double* a = projected + vector_place(l, s.M, i, lines);
        const double* b = projected + vector_place(l, s.M, j, lines);
        for (int h = 0; h < s.Hp; h += WIDTH) {
            Vec d[2 * MAX_DEGREE + 1], total, part = load(by + h);
#pragma GCC unroll 9
            for (int m = 0; m <= 2 * l; ++m) {
                float difference[WIDTH] = {};
                const int n = lines - h < WIDTH ? lines - h : WIDTH;
                for (int k = 0; k < n; ++k) difference[k] = float(b[m * lines + h + k] - a[m * lines + h + k]);
                d[m] = load(difference);
                total = fma(d[m], d[m], total);
            }
            if (map.bits) {
                const Vec step = load(map.step + (l - 1) * s.Hp + h);
                part = select(outside(total / step, bound), Vec(), part / step);
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
