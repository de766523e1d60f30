// Exponential, tanh and sigmoid of vectors of floats.
#pragma once

#include "simd/vector.h"

namespace gaq::GAQ_ISA {

// e^x within 1 ulp for x from -87 to 88, clamped beyond. Cody-Waite reduction, x = n ln 2 + r, and Cephes' polynomial.
GAQ_INLINE Vec exp(Vec x) {
    x = clamp(x, Vec(-87.0f), Vec(88.0f));
    const Vec n = round(x * Vec(1.44269504088896341f));
    Vec r = fma(n, Vec(-0.693359375f), x);
    r = fma(n, Vec(2.12194440e-4f), r);
    Vec p = Vec(1.9875691500e-4f);
    p = fma(p, r, Vec(1.3981999507e-3f));
    p = fma(p, r, Vec(8.3334519073e-3f));
    p = fma(p, r, Vec(4.1665795894e-2f));
    p = fma(p, r, Vec(1.6666665459e-1f));
    p = fma(p, r, Vec(5.0000001201e-1f));
    return scale_by_power(fma(p, r * r, r) + Vec(1.0f), n);
}

// tanh within 2 ulp: a polynomial for small x (Cephes), else from the exponential. Not finite where x is not.
GAQ_INLINE Vec tanh(Vec x) {
    const Vec a = abs(x), z = x * x;
    Vec p = Vec(-5.70498872745e-3f);
    p = fma(p, z, Vec(2.06390887954e-2f));
    p = fma(p, z, Vec(-5.37397155531e-2f));
    p = fma(p, z, Vec(1.33314422036e-1f));
    p = fma(p, z, Vec(-3.33332819422e-1f));
    const Vec small = fma(p * z, x, x);
    const Vec large = Vec(1.0f) - Vec(2.0f) / (exp(a + a) + Vec(1.0f)) + poison(a);
    return select(a > Vec(0.625f), copysign(large, x), small);
}

GAQ_INLINE Vec sigmoid(Vec x) { return Vec(1.0f) / (Vec(1.0f) + exp(Vec(0.0f) - x)); }

}  // namespace gaq::GAQ_ISA
