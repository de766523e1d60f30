// LinearMap maps of a model on rows of features, and their adjoints with the straight-through gradient of rounding.
#pragma once

#include "gemm/integer_products.h"

namespace gaq::GAQ_ISA {

// c = clamp(round(t), low, high), halves to even; NaN has no code and stays NaN.
GAQ_INLINE Vec rounded_code(Vec t, Vec low, Vec high) { return clamp(round(t), low, high); }

GAQ_INLINE Mask outside(Vec t, Vec largest) { return abs(t) > largest + Vec(0.5f); }

// y = x scale + bias in place.
inline void scale_and_bias(const LinearMap& map, const Rows& y, int rows) {
    if (!map.scale && !map.bias) return;
    for (int o = 0; o < map.forward.out; o += WIDTH) {
        const Vec s = map.scale ? load(map.scale + o) : Vec(1.0f), b = map.bias ? load(map.bias + o) : Vec();
        for (int r = 0; r < rows; ++r) fma(load(y[r] + o), s, b).store(y[r] + o);
    }
}

inline void apply(const LinearMap& map, const float* x, size_t stride, const Rows& y, int rows, ProductScratch& z) {
    const int in = map.forward.in;
    if (!map.bits) {
        multiply(map.forward, x, stride, y, rows, z.decoded);
        scale_and_bias(map, y, rows);
        return;
    }
    const Vec high(map.qmax), low(-map.qmax);
    const bool real = map.forward.kind == WeightKind::float32 || map.bits > MAX_INTEGER_BITS,
               narrow = HAS_NARROW && map.bits <= 8;
    int64_t clipped = 0;
    Vec not_finite;  // whole numbers hold no NaN
    for (int r = 0; r < rows; ++r) {
        IntVec total[PARTS];
        for (int q = 0; q < PARTS; ++q) total[q] = int_vec(0);
        for (int k = 0; k < in; k += LANES) {
            Vec t[PARTS];
            for (int q = 0; q < PARTS; ++q) {
                const int c = k + q * WIDTH;
                t[q] = load(x + r * stride + c) / Divisor(load(map.step + c), load(map.inverse + c));
                clipped += count(outside(t[q], high));
                not_finite = not_finite + poison(t[q]);
                t[q] = rounded_code(t[q], low, high);
                if (real) t[q].store(z.rows + size_t(r) * in + c);
            }
            const size_t place = size_t(r) * in + k;
            if (!real) store_codes(t, total, narrow ? z.narrow + place : nullptr, z.wide + place);
        }
        z.sum[r] = sum_of(total);
    }
    z.not_finite += sum(not_finite);
    z.clipped[map.quantizer] += uint64_t(clipped);
    z.seen[map.quantizer] += uint64_t(rows) * uint64_t(in);
    if (real) {
        multiply(map.forward, z.rows, in, y, rows, z.decoded);
        scale_and_bias(map, y, rows);
    } else {
        multiply_codes(map.forward, Codes{z.narrow, z.wide, z.sum}, narrow, map.scale, map.bias, y, rows);
    }
}

// dx += dy/dx^T dy, or dx = with `fresh`; x is what the map was applied to. Straight through the rounding where x is
// within the range of the codes, zero beyond.
inline void adjoint(const LinearMap& map, const float* x, size_t stride, const ConstRows& dy, float* dx, size_t dx_stride,
                    int rows, bool fresh, ProductScratch& z) {
    const int in = map.forward.in, out = map.forward.out;
    const float* given = dy.first;
    size_t given_stride = dy.jump;
    if (map.scale || dy.group > 1) {
        for (int r = 0; r < rows; ++r) {
            const float* row = dy[r];
            for (int o = 0; o < out; o += WIDTH) {
                const Vec d = load(row + o);
                (map.scale ? d * load(map.scale + o) : d).store(z.rows + size_t(r) * out + o);
            }
        }
        given = z.rows;
        given_stride = out;
    }
    if (!map.bits && fresh) {
        multiply(map.backward, given, given_stride, Rows(dx, dx_stride), rows, z.decoded);
        return;
    }
    multiply(map.backward, given, given_stride, Rows(z.more, in), rows, z.decoded);
    const Vec bound(map.qmax);
    for (int k = 0; k < in; k += WIDTH) {
        const Divisor step = map.bits ? Divisor(load(map.step + k), load(map.inverse + k)) : Divisor();
        for (int r = 0; r < rows; ++r) {
            Vec d = load(z.more + size_t(r) * in + k);
            if (map.bits) d = select(outside(load(x + r * stride + k) / step, bound), Vec(), d * step.inverse);
            float* place = dx + r * dx_stride + k;
            (fresh ? d : load(place) + d).store(place);
        }
    }
}

}  // namespace gaq::GAQ_ISA
