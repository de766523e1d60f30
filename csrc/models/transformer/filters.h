// The filter of a pair, f = table(r) + W codes(c), with c the contractions of the vector features; and its adjoint.
//
// Tables are cubic splines: four rows around the distance, weighted by four numbers that are the same for all channels. One
// filter serves both directions of a pair, for c is symmetric.
#pragma once

#include "models/transformer/shapes.h"

namespace gaq::transformer::GAQ_ISA {

// f of N vectors of channels from o on, and its derivative by the distance.
template <int N, bool slopes>
GAQ_INLINE void table_part(const float* knot, const float* record, int width, int o, Vec* f, Vec* df) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
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

// The rows of a table that are around the distance of a pair.
GAQ_INLINE const float* knot_of(const float* table, const float* record, int width) {
    int32_t knot;
    __builtin_memcpy(&knot, record + KNOT, sizeof knot);
    return table + size_t(knot) * width;
}

// N vectors of channels, from o on, of the filters of P pairs, whose records, codes and filters lie one after the other.
template <int P, int N, class S>
GAQ_INLINE void filter_part(const S& s, const Layer& y, const float* record, int stride, const float* codes, int o,
                            float* filter) {
    Vec f[P][N];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
        const float* own = record + size_t(p) * stride;
        table_part<N, false>(knot_of(y.table, own, s.W), own, s.W, o, f[p], nullptr);
    }
    const float* row = y.contract + o;
#pragma GCC unroll 4
    for (int l = 0; l < s.L; ++l)
#pragma GCC unroll 4
        for (int h = 0; h < s.H; ++h, row += s.W) {
            Vec w[N];
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) w[n] = load(row + n * WIDTH);
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p) {
                const Vec c(codes[(p * s.L + l) * s.Hp + h]);
#pragma GCC unroll 8
                for (int n = 0; n < N; ++n) f[p][n] = fma(c, w[n], f[p][n]);
            }
        }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) f[p][n].store(filter + size_t(p) * s.W + o + n * WIDTH);
}

template <int P, class S>
GAQ_INLINE void filter_parts(const S& s, const Layer& y, const float* record, int stride, const float* codes, int begin,
                             int end, float* filter) {
    constexpr int N = WIDTH == 16 || P == 1 ? 4 : 2;
    int o = begin;
    for (; o + N * WIDTH <= end; o += N * WIDTH) filter_part<P, N>(s, y, record, stride, codes, o, filter);
    for (; o < end; o += WIDTH) filter_part<P, 1>(s, y, record, stride, codes, o, filter);
}

// Channels [begin, end) of the filters of n <= PAIR_BATCH pairs from p on, from the codes of their contractions.
template <class S>
GAQ_INLINE void filters(const S& s, const Layer& y, const Pairs& pairs, int p, int n, const float* codes, int begin,
                        int end, float* filter) {
    const float* record = pairs.record + size_t(p) * pairs.record_stride;
    if (n == PAIR_BATCH) {
        filter_parts<PAIR_BATCH>(s, y, record, pairs.record_stride, codes, begin, end, filter);
        return;
    }
    for (int q = 0; q < n; ++q)
        filter_parts<1>(s, y, record + size_t(q) * pairs.record_stride, 0, codes + q * s.L * s.Hp, begin, end,
                        filter + size_t(q) * s.W);
}

// What the contractions of n pairs from p on see: the codes of c_lh = sum_m (P_j - P_i)², for each pair rows of Hp by
// degree.
template <class S>
GAQ_INLINE void contractions(const S& s, const Layer& y, const double* projected, const Pairs& pairs, int p, int n,
                             float* codes, Scratch& z) {
    const LinearMap& map = y.contraction;
    const Vec high(map.qmax), low(-map.qmax);
    const int lines = padded_doubles(s.H);
    int64_t clipped = 0;
    Vec not_finite;
    for (int q = 0; q < n; ++q, codes += s.L * s.Hp)
#pragma GCC unroll 4
        for (int l = 1; l <= s.L; ++l) {
            const double* a = projected + vector_place(l, s.M, pairs.i[p + q], lines);
            const double* b = projected + vector_place(l, s.M, pairs.j[p + q], lines);
            for (int h = 0; h < lines; h += WIDTH) {
                const int place = (l - 1) * s.Hp + h;
                Vec t = square(b + h, a + h, lines, 2 * l + 1, lines - h);
                if (map.bits) {
                    t = t / Divisor(load(map.step + place), load(map.inverse + place));
                    clipped += count(outside(t, high));
                    not_finite = not_finite + poison(t);
                    t = rounded_code(t, low, high);
                }
                t.store(codes + place);
            }
        }
    if (map.bits) {
        z.not_finite += sum(not_finite);
        z.clipped[map.quantizer] += uint64_t(clipped);
        z.seen[map.quantizer] += uint64_t(n * s.L * s.H);
    }
}

// total[k] = sum_o df[o] W[k][o] for K rows of W, then for T rows of a table, the lanes still apart.
template <int K, int T>
GAQ_INLINE void transposed_part(const float* df, const float* rows, const float* knot, int width, Vec* total) {
    for (int o = 0; o < width; o += WIDTH) {
        const Vec d = load(df + o);
#pragma GCC unroll 16
        for (int k = 0; k < K; ++k) total[k] = fma(d, load(rows + size_t(k) * width + o), total[k]);
#pragma GCC unroll 4
        for (int k = 0; k < T; ++k) total[K + k] = fma(d, load(knot + size_t(k) * width + o), total[K + k]);
    }
}

// The gradient of the contractions, rows of Hp for each degree; returns that of the distance.
template <class S>
GAQ_INLINE float contracted(const S& s, const Layer& y, const float* record, const float* by_filter, float* by) {
    const float *contract = y.contract, *knot = knot_of(y.table, record, s.W);
    const auto slope = [&](const Vec* t) {
        return sum(fma(Vec(record[SLOPE]), t[0], Vec(record[SLOPE + 1]) * t[1]) +
                   fma(Vec(record[SLOPE + 2]), t[2], Vec(record[SLOPE + 3]) * t[3]));
    };
    if constexpr (is_fixed<S>) {
        Vec total[4 * S::L + 4];
        transposed_part<4 * S::L, 4>(by_filter, contract, knot, S::W, total);
        for (int l = 0; l < S::L; ++l) sum4_filled(total + 4 * l, by + l * S::Hp);
        return slope(total + 4 * S::L);
    }
    for (int l = 0; l < s.L; ++l)
        for (int h = 0; h < s.Hp; ++h) {
            Vec total;
            if (h < s.H) transposed_part<1, 0>(by_filter, contract + size_t(l * s.H + h) * s.W, nullptr, s.W, &total);
            by[l * s.Hp + h] = sum(total);
        }
    Vec total[4];
    transposed_part<0, 4>(by_filter, nullptr, knot, s.W, total);
    return slope(total);
}

// From the gradient of a filter to those of the projected features of i and j; returns that of the distance.
template <class S>
GAQ_INLINE float filter_adjoint(const S& s, const Layer& y, const double* projected, float* g, int i, int j,
                                const float* record, const float* by_filter, float* by) {
    const LinearMap& map = y.contraction;
    const Vec bound(map.qmax);
    const int lines = padded_doubles(s.H);
    const float by_distance = contracted(s, y, record, by_filter, by);
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
    return by_distance;
}

}  // namespace gaq::transformer::GAQ_ISA
