// The end of an attention block, the interaction block after it, and the energies: forward, and backward by hand.
#pragma once

#include "models/transformer/extrapolation.h"
#include "models/transformer/shapes.h"
#include "simd/functions.h"

namespace gaq::transformer::GAQ_ISA {

GAQ_INLINE void silu(const float* x, float* y, size_t count) {
    for (size_t c = 0; c < count; c += WIDTH) {
        const Vec t = load(x + c);
        (t * sigmoid(t)).store(y + c);
    }
}

// g *= silu'(x).
GAQ_INLINE void silu_adjoint(const float* x, float* g, size_t count) {
    for (size_t c = 0; c < count; c += WIDTH) {
        const Vec t = load(x + c), s = sigmoid(t);
        (load(g + c) * s * fma(t, Vec(1.0f) - s, Vec(1.0f))).store(g + c);
    }
}

// Divide messages by the attention's denominators, and add them to the features.
template <class S>
GAQ_INLINE void normalize_messages(const S& s, Arguments& args, int layer, int begin, int end, Scratch& z) {
    const Parameters& m = *args.parameters;
    Activations& t = args.work.layer[layer];
    const int rows = end - begin;
    const size_t at = begin;
    for (int i = begin; m.shape.robust && i < end; ++i) {
        float* total = t.total + size_t(i) * s.Hp;
        for (int h = 0; h < s.H; ++h) total[h] = 1.0f / total[h] + poison(total[h]);
        for (int c = 0; c < s.Fp; c += WIDTH) {
            float* place = t.message + size_t(i) * s.Fp + c;
            (load(place) * lookup(total, m.scalar_heads.of_channel + c, s.H)).store(place);
        }
        for (int c = 0; c < s.Cp; c += WIDTH) {
            const Vec share = lookup(total, m.vector_heads.of_channel + c, s.H);
            for (int l = 1; l <= s.L; ++l) {
                float* place = t.vector_message + vector_place(l, s.M, i, s.Cp) + c;
                for (int k = 0; k <= 2 * l; ++k) (load(place + k * s.Cp) * share).store(place + k * s.Cp);
            }
        }
    }
    apply(m.layers[layer].output, t.message + at * s.Fp, s.Fp, Rows(t.x2 + at * s.Fp, s.Fp), rows, z);
    for (size_t c = at * s.Fp; c < size_t(end) * s.Fp; c += WIDTH) add_to(t.x2 + c, load(t.x + c));
    for (size_t c = at * s.M * s.Cp; c < size_t(end) * s.M * s.Cp; c += WIDTH)
        (load(t.v + c) + load(t.vector_message + c)).store(t.v2 + c);
}

template <class S>
GAQ_INLINE void interaction_atoms(const S& s, Arguments& args, int layer, int begin, int end, Scratch& z) {
    const Parameters& m = *args.parameters;
    const Layer& y = m.layers[layer];
    Activations &t = args.work.layer[layer], &next = args.work.layer[layer + 1];
    const int rows = end - begin, width = s.Fp + s.G;
    const size_t at = begin;
    normalize_messages(s, args, layer, begin, end, z);
    float *input = t.update_input + at * width, *change = z.c;
    layer_moments(t.x2 + at * s.Fp, t.second + at, rows, s.F, s.Fp);
    layer_norm(y.second, t.x2 + at * s.Fp, t.second + at, input, rows, s.Fp, width);
    with_rounded(args, y.update, t.v2, begin, end, z.b, z, [&](int l, const float* v, int count) {
        const Rows pq = degree_rows(m.shape, t.products, l, at, 2 * s.Cp);
        apply(y.pair[l - 1], v, s.Cp, pq, count, z);
        for (int i = 0; i < rows; ++i)
            for (int c = 0; c < s.Cp; c += WIDTH) {
                const float* row = pq.first + i * pq.jump + c;
                Vec total;
                for (int k = 0; k <= 2 * l; ++k)
                    total = fma(load(row + k * 2 * s.Cp), load(row + k * 2 * s.Cp + s.Cp), total);
                total.store(input + size_t(i) * width + s.Fp + (l - 1) * s.Cp + c);
            }
    });
    float* hidden = t.hidden + at * s.Fp;
    apply(y.update_first, input, width, Rows(hidden, s.Fp), rows, z);
    silu(hidden, z.d, size_t(rows) * s.Fp);
    apply(y.update_second, z.d, s.Fp, Rows(change, width), rows, z);
    for (int i = 0; i < rows; ++i) {
        const float* row = change + size_t(i) * width;
        for (int c = 0; c < s.Fp; c += WIDTH) {
            const size_t place = (at + i) * s.Fp + c;
            (load(t.x2 + place) + load(row + c)).store(next.x + place);
        }
        __builtin_memcpy(t.gates + (at + i) * s.G, row + s.Fp, s.G * sizeof(float));
        each_degree(s, [&](auto degree) {
            constexpr int l = decltype(degree)::value, n = 2 * l + 1;
            const float* D = frame_of(args, y.update[l - 1], l, at + i);
#pragma GCC unroll 2
            for (int c = 0; c < s.Cp; c += WIDTH) {
                const Vec gate = load(row + s.Fp + (l - 1) * s.Cp + c);
                const size_t place = vector_place(l, s.M, at + i, s.Cp) + c;
                Vec q[n];
                load_rotated<n, true>(D, t.products + vector_place(l, s.M, at + i, 2 * s.Cp) + s.Cp + c, 2 * s.Cp, q);
                for (int k = 0; k < n; ++k) fma(gate, q[k], load(t.v2 + place + k * s.Cp)).store(next.v + place + k * s.Cp);
            }
        });
    }
}

// Gradients of the interaction block: gx, gv of its output become those of its input.
template <class S>
GAQ_INLINE void update_adjoint(const S& s, Arguments& args, int layer, int begin, int end, Scratch& z) {
    const Parameters& m = *args.parameters;
    const Layer& y = m.layers[layer];
    Activations& t = args.work.layer[layer];
    Workspace& g = args.work;
    const int rows = end - begin, width = s.Fp + s.G;
    const size_t at = begin;
    float *change = z.c, *hidden = z.d, *products = z.b, *rotated = z.a;
    for (int i = 0; i < rows; ++i) {  // gradient of the change of scalars, and of the gates
        float* row = change + size_t(i) * width;
        __builtin_memcpy(row, g.gx + (at + i) * s.Fp, s.Fp * sizeof(float));
        each_degree(s, [&](auto degree) {
            constexpr int l = decltype(degree)::value, n = 2 * l + 1;
            const float* D = frame_of(args, y.update[l - 1], l, at + i);
#pragma GCC unroll 2
            for (int c = 0; c < s.Cp; c += WIDTH) {
                const float* q = t.products + vector_place(l, s.M, at + i, 2 * s.Cp) + s.Cp + c;
                Vec gv[n], total;
                load_rotated<n, false>(D, g.gv + vector_place(l, s.M, at + i, s.Cp) + c, s.Cp, gv);
                for (int k = 0; k < n; ++k) {
                    total = fma(gv[k], load(q + k * 2 * s.Cp), total);
                    gv[k].store(rotated + vector_place(l, s.M, i, s.Cp) + k * s.Cp + c);
                }
                total.store(row + s.Fp + (l - 1) * s.Cp + c);
            }
        });
    }
    silu(t.hidden + at * s.Fp, hidden, size_t(rows) * s.Fp);
    adjoint(y.update_second, hidden, s.Fp, ConstRows(change, width), products, s.Fp, rows, true, z);
    silu_adjoint(t.hidden + at * s.Fp, products, size_t(rows) * s.Fp);
    adjoint(y.update_first, t.update_input + at * width, width, ConstRows(products, s.Fp), change, width, rows, true, z);
    layer_norm_adjoint(y.second, t.x2 + at * s.Fp, t.second + at, change, width, g.gx + at * s.Fp, rows, s.F, s.Fp);
    each_degree(s, [&](auto degree) {
        constexpr int l = decltype(degree)::value, n = 2 * l + 1;
        for (int i = 0; i < rows; ++i)
            for (int c = 0; c < s.Cp; c += WIDTH) {
                const Vec by_invariant = load(change + size_t(i) * width + s.Fp + (l - 1) * s.Cp + c);
                const Vec gate = load(t.gates + (at + i) * s.G + (l - 1) * s.Cp + c);
                const float* pq = t.products + vector_place(l, s.M, at + i, 2 * s.Cp) + c;
                const float* gv = rotated + vector_place(l, s.M, i, s.Cp) + c;
                float* d = products + size_t(i) * n * 2 * s.Cp + c;
                for (int k = 0; k < n; ++k) {
                    (by_invariant * load(pq + k * 2 * s.Cp + s.Cp)).store(d + k * 2 * s.Cp);
                    fma(by_invariant, load(pq + k * 2 * s.Cp), gate * load(gv + k * s.Cp)).store(d + k * 2 * s.Cp + s.Cp);
                }
            }
        adjoint(y.pair[l - 1], nullptr, 0, ConstRows(products, 2 * s.Cp), hidden, s.Cp, rows * n, true, z);
        rounded_adjoint(args, y.update[l - 1], l, t.v2, hidden, begin, end);
    });
}

template <class S>
GAQ_INLINE void interaction_atoms_adjoint(const S& s, Arguments& args, int layer, int begin, int end, Scratch& z) {
    const Parameters& m = *args.parameters;
    Activations& t = args.work.layer[layer];
    Workspace& g = args.work;
    const int rows = end - begin;
    const size_t at = begin, gates = s.Fp + s.G;
    update_adjoint(s, args, layer, begin, end, z);
    adjoint(m.layers[layer].output, t.message + at * s.Fp, s.Fp, ConstRows(g.gx + at * s.Fp, s.Fp), g.g_message + at * s.Fp,
            s.Fp, rows, true, z);
    for (int i = begin; m.shape.robust && i < end; ++i) {  // sum over neighbours of a times its gradient, from the messages
        const float *gm = g.g_message + size_t(i) * s.Fp, *message = t.message + size_t(i) * s.Fp;
        sum_scalars_and_vectors(
            s, m, g.g_share + size_t(i) * s.Hp, z.pair, [&](int c) { return load(gm + c) * load(message + c); },
            [&](int c) {
                Vec total;
#pragma GCC unroll 24
                for (int k = 0; k < s.M; ++k) {
                    const size_t place = (size_t(i) * s.M + k) * s.Cp + c;
                    total = fma(load(g.gv + place), load(t.vector_message + place), total);
                }
                return total;
            });
    }
    clear(g.g_query + at * s.Fp, size_t(rows) * s.Fp);
    clear(g.g_key + at * s.Fp, size_t(rows) * s.Fp);
    clear(g.g_value + at * gates, rows * gates);
    clear(g.g_mixed + at * s.M * s.Cp, size_t(rows) * s.M * s.Cp);
    clear(g.g_projected + at * s.M * s.Hp, size_t(rows) * s.M * s.Hp);
}

inline void interaction(Arguments& args, int layer, int begin, int end, Scratch& z) {
    with_shape(args.parameters->shape, [&](const auto& s) { interaction_atoms(s, args, layer, begin, end, z); });
}

inline void interaction_adjoint(Arguments& args, int layer, int begin, int end, Scratch& z) {
    with_shape(args.parameters->shape, [&](const auto& s) { interaction_atoms_adjoint(s, args, layer, begin, end, z); });
}

// Energies without unit, and the gradient of their sum by the last features.
inline void readout(Arguments& args, int begin, int end, Scratch& z) {
    const Parameters& m = *args.parameters;
    const Shape& s = m.shape;
    Workspace& g = args.work;
    const float* x = g.layer[s.T].x + size_t(begin) * s.Fp;
    const int rows = end - begin, width = m.hidden.forward.out;
    apply(m.hidden, x, s.Fp, Rows(z.a, width), rows, z);
    silu(z.a, z.b, size_t(rows) * width);
    apply(m.last, z.b, width, Rows(z.c, LANES), rows, z);
    for (int i = 0; i < rows; ++i) {
        float slope;
        g.energy[begin + i] = levelled(m.bounds[args.schedule.species[begin + i]], z.c[size_t(i) * LANES], &slope);
        clear(z.c + size_t(i) * LANES, LANES);
        z.c[size_t(i) * LANES] = slope;
    }
    if (!args.gradients) return;
    adjoint(m.last, z.b, width, ConstRows(z.c, LANES), z.d, width, rows, true, z);
    silu_adjoint(z.a, z.d, size_t(rows) * width);
    adjoint(m.hidden, x, s.Fp, ConstRows(z.d, width), g.gx + size_t(begin) * s.Fp, s.Fp, rows, true, z);
    clear(g.gv + size_t(begin) * s.M * s.Cp, size_t(rows) * s.M * s.Cp);
}

}  // namespace gaq::transformer::GAQ_ISA
