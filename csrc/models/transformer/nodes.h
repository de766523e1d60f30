// What atoms do on their own: normalization, linear maps, rounding; forward, and backward by hand.
#pragma once

#include "models/transformer/vectors.h"

namespace gaq::transformer::GAQ_ISA {

// How many of the lanes from h on are of a head.
GAQ_INLINE int lanes_left(int heads, int h) { return heads - h >= WIDTH ? WIDTH : heads > h ? heads - h : 0; }

GAQ_INLINE void clear(float* p, size_t count) { __builtin_memset(p, 0, count * sizeof(float)); }

inline void layer_moments(const float* x, Moments* found, int rows, int F, int Fp) {
    const int whole = F / WIDTH * WIDTH;
    for (int r = 0; r < rows; r += 4, x += 4 * size_t(Fp), found += 4) {
        const int n = rows - r < 4 ? rows - r : 4;
        Vec lanes[4], squares[4];
        float mean[4], variance[4];
        for (int k = 0; k < n; ++k)
            for (int c = 0; c < whole; c += WIDTH) lanes[k] = lanes[k] + load(x + k * Fp + c);
        sum4(lanes, mean);
        for (int k = 0; k < n; ++k) {
            for (int c = whole; c < F; ++c) mean[k] += x[k * Fp + c];
            mean[k] /= float(F);
            for (int c = 0; c < whole; c += WIDTH) {
                const Vec d = load(x + k * Fp + c) - Vec(mean[k]);
                squares[k] = fma(d, d, squares[k]);
            }
        }
        sum4(squares, variance);
        for (int k = 0; k < n; ++k) {
            for (int c = whole; c < F; ++c) variance[k] += (x[k * Fp + c] - mean[k]) * (x[k * Fp + c] - mean[k]);
            found[k] = {mean[k], 1.0f / __builtin_sqrtf(variance[k] / float(F) + 1e-5f) + poison(variance[k])};
        }
    }
}

inline void layer_norm(const Norm& norm, const float* x, const Moments* of_row, float* h, int rows, int Fp,
                       size_t out_stride) {
    for (int r = 0; r < rows; ++r) {
        const Moments m = of_row[r];
        for (int c = 0; c < Fp; c += WIDTH) {
            const Vec unit = (load(x + size_t(r) * Fp + c) - Vec(m.mean)) * Vec(m.factor);
            fma(unit, load(norm.weight + c), load(norm.bias + c)).store(h + r * out_stride + c);
        }
    }
}

// gx += (dh/dx)^T dh.
inline void layer_norm_adjoint(const Norm& norm, const float* x, const Moments* of_row, const float* dh, size_t dh_stride,
                               float* gx, int rows, int F, int Fp) {
    for (int r = 0; r < rows; ++r) {
        const float* xr = x + size_t(r) * Fp;
        const Moments m = of_row[r];
        Vec both_sums[4];
        for (int c = 0; c < Fp; c += WIDTH) {  // weights are zero in the padding
            const Vec d = load(dh + r * dh_stride + c) * load(norm.weight + c);
            both_sums[0] = both_sums[0] + d;
            both_sums[1] = fma(d, (load(xr + c) - Vec(m.mean)) * Vec(m.factor), both_sums[1]);
        }
        float s[4];
        sum4(both_sums, s);
        for (int c = 0; c < Fp; c += WIDTH) {
            const Vec d = load(dh + r * dh_stride + c) * load(norm.weight + c);
            const Vec unit = (load(xr + c) - Vec(m.mean)) * Vec(m.factor);
            const Vec g = (d - Vec(s[0] / F) - unit * Vec(s[1] / F)) * Vec(m.factor);
            add_to(gx + size_t(r) * Fp + c, g);
        }
        for (int c = F; c < Fp; ++c) gx[size_t(r) * Fp + c] = 0.0f;
    }
}

// out[h] = sum over the channels of each head of term(channel), for a vector of channels at a time; out has room for the
// next multiple of four heads.
template <class Term>
GAQ_INLINE void sum_by_head(const Heads& heads, int count, float* out, Term term) {
    Vec rows[4];
    for (int h = 0; h < count; ++h) {
        Vec total;
        for (int s = heads.first[h]; s < heads.first[h + 1]; ++s)
            for (int q = 0; q < LANES; q += WIDTH)
                total = fma(term(heads.block[s] * LANES + q), load(heads.member + s * LANES + q), total);
        rows[h % 4] = total;
        if (h % 4 == 3) sum4(rows, out + h - 3);
    }
    if (count % 4) {
        for (int h = count % 4; h < 4; ++h) rows[h] = Vec();
        sum4(rows, out + count / 4 * 4);
    }
}

GAQ_INLINE void head_products(const Heads& heads, int count, const float* a, const float* b, float* out) {
    sum_by_head(heads, count, out, [&](int c) { return load(a + c) * load(b + c); });
}

// Make queries or keys unit for each head, times a temperature; keeps the factors without it.
inline void unit_heads(const Parameters& m, float* q, float* norms, const float* temperature, int rows) {
    const Shape& s = m.shape;
    for (int r = 0; r < rows; ++r) {
        float *row = q + size_t(r) * s.Fp, *norm = norms + size_t(r) * s.Hp;
        head_products(m.scalar_heads, s.H, row, row, norm);
        for (int h = 0; h < s.H; ++h) norm[h] = 1.0f / __builtin_sqrtf(norm[h] + 1e-6f) + poison(norm[h]);
        for (int c = 0; c < s.Fp; c += WIDTH) {
            Vec f = lookup(norm, m.scalar_heads.of_channel + c, s.H);
            if (temperature) f = f * lookup(temperature, m.scalar_heads.of_channel + c, s.H);
            (load(row + c) * f).store(row + c);
        }
    }
}

// From the gradient of the unit rows to that of the raw ones, in place: dq = n (T g - u (T g . u)) with u = q̂ / T.
inline void unit_heads_adjoint(const Parameters& m, const float* q, const float* norms, const float* temperature, float* g,
                               int rows) {
    const Shape& s = m.shape;
    float along[4096 + LANES];
    for (int r = 0; r < rows; ++r) {
        const float *row = q + size_t(r) * s.Fp, *norm = norms + size_t(r) * s.Hp;
        float* gr = g + size_t(r) * s.Fp;
        head_products(m.scalar_heads, s.H, row, gr, along);
        if (temperature)
            for (int h = 0; h < s.H; ++h) along[h] /= temperature[h];
        for (int c = 0; c < s.Fp; c += WIDTH) {
            const int32_t* of = m.scalar_heads.of_channel + c;
            Vec d = load(gr + c);
            if (temperature) d = d * lookup(temperature, of, s.H);
            d = d - load(row + c) * lookup(along, of, s.H);
            (d * lookup(norm, of, s.H)).store(gr + c);
        }
    }
}

// D^l of an atom's frame, or null where features are not given in one.
GAQ_INLINE const float* frame_of(const Arguments& args, const Rounding& format, int l, size_t atom) {
    return format.aligned ? args.work.frames + atom * args.work.frame_stride + frame_place(l) : nullptr;
}

// Rows of one degree in an array (atoms, M, width), from an atom on.
template <class T>
GAQ_INLINE RowsOf<T> degree_rows(const Shape& s, T* array, int l, size_t atom, int width) {
    return RowsOf<T>(array + vector_place(l, s.M, atom, width), width, 2 * l + 1, size_t(s.M) * width);
}

// Call use(degree, rounded rows one after the other, how many) for the vector features of atoms [begin, end), in their
// frames where the format is aligned.
template <class Use>
void with_rounded(Arguments& args, const Rounding* formats, const float* v, int begin, int end, float* buffer, Scratch& z,
                  Use use) {
    const Shape& s = args.parameters->shape;
    const int atoms = end - begin;
    const size_t jump = size_t(s.M) * s.Cp;
    for (int l = 1; l <= s.L; ++l) {
        const Rounding& format = formats[l - 1];
        const float* first = v + vector_place(l, s.M, begin, s.Cp);
        const size_t span = size_t(2 * l + 1) * s.Cp;
        if (format.format != Format::none)
            round_vectors(format, l, frame_of(args, format, l, begin), args.work.frame_stride, first, jump, buffer, atoms,
                          s.Cp, z);
        else
            for (int i = 0; i < atoms; ++i) __builtin_memcpy(buffer + i * span, first + i * jump, span * sizeof(float));
        use(l, buffer, atoms * (2 * l + 1));
    }
}

// Turn one degree of the features of atoms [begin, end) into their frames, or back, in place; rows lie in (atoms, M,
// width).
template <bool back>
void rotate_rows(Arguments& args, const Rounding& format, int l, float* array, int begin, int end, int width) {
    if (!format.aligned) return;
    with_degree(l, [&](auto size) {
        constexpr int n = decltype(size)::value;
        for (int i = begin; i < end; ++i) {
            float* first = array + vector_place(l, args.parameters->shape.M, i, width);
            for (int c = 0; c < width; c += WIDTH) {
                Vec w[n];
                load_rotated<n, back>(frame_of(args, format, l, i), first + c, width, w);
                for (int a = 0; a < n; ++a) w[a].store(first + a * width + c);
            }
        }
    });
}

// Projected features of one degree, back from the frames in double precision: atoms of a pair have different frames, and
// what is contracted must not depend on how the molecule lies. `rows` are (atoms, 2l+1, Hp) one after the other.
inline void rotate_projected(Arguments& args, const Rounding& format, int l, const float* rows, double* projected,
                             int begin, int end) {
    const Shape& s = args.parameters->shape;
    const int lines = padded_doubles(s.H);
    with_degree(l, [&](auto size) {
        constexpr int n = decltype(size)::value;
        for (int i = begin; i < end; ++i) {
            const double* D = args.work.exact_frames + size_t(i) * args.work.frame_stride + frame_place(l);
            const float* given = rows + size_t(i - begin) * n * s.Hp;
            double* out = projected + vector_place(l, s.M, i, lines);
            for (int h = 0; h < lines; h += 8) {
                Doubles x[n];
                for (int b = 0; b < n; ++b)
                    for (int k = 0; k < 8; ++k) x[b][k] = given[b * s.Hp + h + k];
                for (int a = 0; a < n; ++a) {
                    Doubles total = x[a];
                    if (format.aligned) total = D[a * n] * x[0];
                    for (int b = 1; format.aligned && b < n; ++b) total += D[a * n + b] * x[b];
                    __builtin_memcpy(out + a * lines + h, &total, sizeof total);
                }
            }
        }
    });
}

// gv += adjoint of the rounding, of a gradient `g` of one degree's rounded rows, in the frames where the format is aligned.
inline void rounded_adjoint(Arguments& args, const Rounding& format, int l, const float* v, const float* g, int begin,
                            int end) {
    const Shape& s = args.parameters->shape;
    const size_t jump = size_t(s.M) * s.Cp, span = size_t(2 * l + 1) * s.Cp, place = vector_place(l, s.M, begin, s.Cp);
    float* gv = args.work.gv + place;
    if (format.format == Format::none) {
        for (int i = 0; i < end - begin; ++i)
            for (size_t c = 0; c < span; c += WIDTH) add_to(gv + i * jump + c, load(g + i * span + c));
        return;
    }
    round_vectors_adjoint(format, l, frame_of(args, format, l, begin), args.work.frame_stride, v + place, jump, g, gv,
                          end - begin, s.Cp);
}

inline void attention_inputs(Arguments& args, int layer, int begin, int end, Scratch& z) {
    const Parameters& m = *args.parameters;
    const Shape& s = m.shape;
    const Layer& y = m.layers[layer];
    Activations& t = args.work.layer[layer];
    const int rows = end - begin;
    const size_t at = begin, gates = s.Fp + s.G;
    float* h = z.a;
    layer_moments(t.x + at * s.Fp, t.first + at, rows, s.F, s.Fp);
    layer_norm(y.first, t.x + at * s.Fp, t.first + at, h, rows, s.Fp, s.Fp);
    apply(y.query, h, s.Fp, Rows(t.query + at * s.Fp, s.Fp), rows, z);
    apply(y.key, h, s.Fp, Rows(t.key + at * s.Fp, s.Fp), rows, z);
    apply(y.value, h, s.Fp, Rows(t.value + at * gates, gates), rows, z);
    if (s.robust) {
        unit_heads(m, t.query + at * s.Fp, t.query_norm + at * s.Hp, y.temperature, rows);
        unit_heads(m, t.key + at * s.Fp, t.key_norm + at * s.Hp, nullptr, rows);
    }
    with_rounded(args, y.feature, t.v, begin, end, z.b, z, [&](int l, const float* v, int count) {
        apply(y.mix[l - 1], v, s.Cp, degree_rows(s, t.mixed, l, at, s.Cp), count, z);
        rotate_rows<true>(args, y.feature[l - 1], l, t.mixed, begin, end, s.Cp);
        apply(y.project[l - 1], v, s.Cp, Rows(z.c, s.Hp), count, z);
        rotate_projected(args, y.feature[l - 1], l, z.c, t.projected, begin, end);
    });
    clear(t.message + at * s.Fp, size_t(rows) * s.Fp);
    clear(t.vector_message + at * s.M * s.Cp, size_t(rows) * s.M * s.Cp);
    for (size_t n = 0; n < size_t(rows) * s.Hp; ++n) t.total[at * s.Hp + n] = 1.0f;
}

inline void attention_inputs_adjoint(Arguments& args, int layer, int begin, int end, Scratch& z) {
    const Parameters& m = *args.parameters;
    const Shape& s = m.shape;
    const Layer& y = m.layers[layer];
    Activations& t = args.work.layer[layer];
    Workspace& g = args.work;
    const int rows = end - begin;
    const size_t at = begin, gates = s.Fp + s.G;
    float *h = z.a, *dh = z.b;
    if (s.robust) {
        unit_heads_adjoint(m, t.query + at * s.Fp, t.query_norm + at * s.Hp, y.temperature, g.g_query + at * s.Fp, rows);
        unit_heads_adjoint(m, t.key + at * s.Fp, t.key_norm + at * s.Hp, nullptr, g.g_key + at * s.Fp, rows);
    }
    layer_norm(y.first, t.x + at * s.Fp, t.first + at, h, rows, s.Fp, s.Fp);
    adjoint(y.query, h, s.Fp, ConstRows(g.g_query + at * s.Fp, s.Fp), dh, s.Fp, rows, true, z);
    adjoint(y.key, h, s.Fp, ConstRows(g.g_key + at * s.Fp, s.Fp), dh, s.Fp, rows, false, z);
    adjoint(y.value, h, s.Fp, ConstRows(g.g_value + at * gates, gates), dh, s.Fp, rows, false, z);
    layer_norm_adjoint(y.first, t.x + at * s.Fp, t.first + at, dh, s.Fp, g.gx + at * s.Fp, rows, s.F, s.Fp);
    for (int l = 1; l <= s.L; ++l) {
        const int count = rows * (2 * l + 1);
        rotate_rows<false>(args, y.feature[l - 1], l, g.g_mixed, begin, end, s.Cp);
        rotate_rows<false>(args, y.feature[l - 1], l, g.g_projected, begin, end, s.Hp);
        const float *mixed = g.g_mixed, *projected = g.g_projected;
        adjoint(y.mix[l - 1], nullptr, 0, degree_rows(s, mixed, l, at, s.Cp), z.c, s.Cp, count, true, z);
        adjoint(y.project[l - 1], nullptr, 0, degree_rows(s, projected, l, at, s.Hp), z.c, s.Cp, count, false, z);
        rounded_adjoint(args, y.feature[l - 1], l, t.v, z.c, begin, end);
    }
}

}  // namespace gaq::transformer::GAQ_ISA
