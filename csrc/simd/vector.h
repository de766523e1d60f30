// Vectors of floats of the instruction set this file is compiled for: 16 lanes with AVX-512, 8 with AVX2, 1 without. All
// lives in a namespace of that instruction set. Sums of products fuse only where fma() says so (-ffp-contract=off), so
// that every compiler makes the same roundings.
//
// Of each instruction set:
//   inverse_sqrt: within 2 ulp
//   first, store_first: the first n lanes, zero beyond; nothing beyond is touched
//   difference, square: b - a, and the sum of its squares over `rows`, of n doubles as floats; n is 8 or more, WIDTH is
//   enough
//   sum4: out[k] = sum of the lanes of a[k], k = 0..3; add_sum4 adds them; sum4_filled writes a whole vector (zero beyond),
//   which can be loaded as one at once: a load from several stores that are still under way has to wait for all of them
#pragma once

#include "simd/isa.h"

#if defined(GAQ_AVX512)
#include "simd/avx512.h"
#elif defined(GAQ_AVX2)
#include "simd/avx2.h"
#else
#include "simd/scalar.h"
#endif

namespace gaq::GAQ_ISA {

GAQ_INLINE Vec load(const float* p) { return Vec::load(p); }

// Eight doubles with the operators of the compiler's vectors, whatever the instruction set.
typedef double Doubles __attribute__((vector_size(64), aligned(8)));
GAQ_INLINE void sqrt(const Doubles& a, Doubles& root) {
#if defined(GAQ_AVX512)
    root = Doubles(_mm512_sqrt_pd(__m512d(a)));
#else
    for (int k = 0; k < 8; ++k) root[k] = __builtin_sqrt(a[k]);
#endif
}

// A divisor of many numbers: their quotients take three products and have the bits of a division, because the error of
// x (1/d) is known exactly and corrected (Markstein 1990).
struct Divisor {
    Vec value, inverse;
    GAQ_INLINE Divisor() : value(1.0f), inverse(1.0f) {}
    GAQ_INLINE explicit Divisor(Vec d) : value(d), inverse(Vec(1.0f) / d) {}
    GAQ_INLINE Divisor(Vec d, Vec one_by_d) : value(d), inverse(one_by_d) {}
};
GAQ_INLINE Vec operator/(Vec x, const Divisor& d) {
    const Vec estimate = x * d.inverse;
    return fma(fma(Vec(0.0f) - estimate, d.value, x), d.inverse, estimate);
}

// sqrt(a) with its inverse, to divide by.
GAQ_INLINE Divisor root(Vec a) {
    const Vec inverse = inverse_sqrt(a), estimate = a * inverse;
    return {fma(fma(Vec(0.0f) - estimate, estimate, a), inverse * Vec(0.5f), estimate), inverse};
}

GAQ_INLINE void add_to(float* p, Vec a) { (load(p) + a).store(p); }

// out[k] += sum of the lanes of a[k] for k < count; a and out have room for the next multiple of four.
GAQ_INLINE void add_sums(Vec* a, int count, float* out) {
    for (int k = count; k % 4; ++k) a[k] = Vec();
    for (int k = 0; k < count; k += 4) add_sum4(a + k, out + k);
}

// x within [low, high]; NaN stays NaN, because min and max give their second argument where either is NaN.
GAQ_INLINE Vec clamp(Vec x, Vec low, Vec high) { return min(high, max(low, x)); }

// NaN where x is not finite, else 0: what is to be added to a result that would hide it.
GAQ_INLINE Vec poison(Vec x) { return x * Vec(0.0f); }
GAQ_INLINE float poison(float x) { return x * 0.0f; }

}  // namespace gaq::GAQ_ISA
