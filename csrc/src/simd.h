// Vectors of floats of the instruction set this file is compiled for: 16 lanes with AVX-512, 8 with AVX2, 1 without. All
// lives in a namespace of that instruction set. Sums of products fuse only where fma() says so (-ffp-contract=off), so
// that every compiler makes the same roundings.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(GAQ_AVX512)
#define GAQ_ISA avx512
#include <immintrin.h>
#elif defined(GAQ_AVX2)
#define GAQ_ISA avx2
#include <immintrin.h>
#else
#define GAQ_ISA scalar
#endif

#define GAQ_INLINE inline __attribute__((always_inline))

namespace gaq {
namespace GAQ_ISA {

#if defined(GAQ_AVX512)

constexpr int WIDTH = 16;
using Mask = __mmask16;
struct Vec {
    __m512 v;
    GAQ_INLINE Vec() : v(_mm512_setzero_ps()) {}
    GAQ_INLINE Vec(__m512 x) : v(x) {}
    GAQ_INLINE Vec(float x) : v(_mm512_set1_ps(x)) {}
    static GAQ_INLINE Vec load(const float* p) { return _mm512_loadu_ps(p); }
    GAQ_INLINE void store(float* p) const { _mm512_storeu_ps(p, v); }
};
GAQ_INLINE Vec operator+(Vec a, Vec b) { return _mm512_add_ps(a.v, b.v); }
GAQ_INLINE Vec operator-(Vec a, Vec b) { return _mm512_sub_ps(a.v, b.v); }
GAQ_INLINE Vec operator*(Vec a, Vec b) { return _mm512_mul_ps(a.v, b.v); }
GAQ_INLINE Vec operator/(Vec a, Vec b) { return _mm512_div_ps(a.v, b.v); }
GAQ_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
GAQ_INLINE Vec min(Vec a, Vec b) { return _mm512_min_ps(a.v, b.v); }
GAQ_INLINE Vec max(Vec a, Vec b) { return _mm512_max_ps(a.v, b.v); }
GAQ_INLINE Vec abs(Vec a) { return _mm512_abs_ps(a.v); }
GAQ_INLINE Vec sqrt(Vec a) { return _mm512_sqrt_ps(a.v); }
GAQ_INLINE Vec round(Vec a) { return _mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
GAQ_INLINE Mask operator>(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ); }
GAQ_INLINE Mask operator<=(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ); }
GAQ_INLINE Vec select(Mask m, Vec yes, Vec no) { return _mm512_mask_blend_ps(m, no.v, yes.v); }
GAQ_INLINE Mask both(Mask a, Mask b) { return a & b; }
GAQ_INLINE int count(Mask m) { return __builtin_popcount(m); }
GAQ_INLINE Vec scale_by_power(Vec a, Vec n) { return _mm512_scalef_ps(a.v, n.v); }
GAQ_INLINE Vec copysign(Vec a, Vec s) {
    const __m512 bit = _mm512_set1_ps(-0.0f);
    return _mm512_or_ps(_mm512_andnot_ps(bit, a.v), _mm512_and_ps(bit, s.v));
}
// a[index] for each lane, from a row of `heads` values.
GAQ_INLINE Vec spread(const float* a, const int32_t* index, int heads) {
    const __m512i i = _mm512_loadu_si512(index);
    return heads <= 16 ? _mm512_permutexvar_ps(i, _mm512_loadu_ps(a)) : _mm512_i32gather_ps(i, a, 4);
}
GAQ_INLINE Vec inverse_sqrt(Vec a) {
    const __m512 r = _mm512_rsqrt14_ps(a.v);
    const __m512 error = _mm512_fnmadd_ps(_mm512_mul_ps(a.v, r), r, _mm512_set1_ps(1.0f));
    return _mm512_fmadd_ps(_mm512_mul_ps(r, _mm512_set1_ps(0.5f)), error, r);
}
GAQ_INLINE Vec first(const float* p, int n) { return _mm512_maskz_loadu_ps(Mask((1u << n) - 1), p); }
GAQ_INLINE void store_first(float* p, int n, Vec a) { _mm512_mask_storeu_ps(p, Mask((1u << n) - 1), a.v); }
GAQ_INLINE Vec difference(const double* b, const double* a, int n) {
    const __m256 low = _mm512_cvtpd_ps(_mm512_sub_pd(_mm512_loadu_pd(b), _mm512_loadu_pd(a)));
    if (n <= 8) return _mm512_zextps256_ps512(low);
    const __m256 high = _mm512_cvtpd_ps(_mm512_sub_pd(_mm512_loadu_pd(b + 8), _mm512_loadu_pd(a + 8)));
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
GAQ_INLINE __m256 half_square(const double* b, const double* a, int stride, int rows) {
    __m512d total = _mm512_setzero_pd();
#pragma GCC unroll 9
    for (int k = 0; k < rows; ++k) {
        const __m512d d = _mm512_sub_pd(_mm512_loadu_pd(b + k * stride), _mm512_loadu_pd(a + k * stride));
        total = _mm512_add_pd(total, _mm512_mul_pd(d, d));
    }
    return _mm512_cvtpd_ps(total);
}
GAQ_INLINE Vec square(const double* b, const double* a, int stride, int rows, int n) {
    const __m256 low = half_square(b, a, stride, rows);
    if (n <= 8) return _mm512_zextps256_ps512(low);
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), half_square(b + 8, a + 8, stride, rows), 1);
}
GAQ_INLINE float sum(Vec a) { return _mm512_reduce_add_ps(a.v); }
GAQ_INLINE __m128 four_sums(const Vec* a) {
    const __m512 s = _mm512_add_ps(_mm512_unpacklo_ps(a[0].v, a[1].v), _mm512_unpackhi_ps(a[0].v, a[1].v));
    const __m512 t = _mm512_add_ps(_mm512_unpacklo_ps(a[2].v, a[3].v), _mm512_unpackhi_ps(a[2].v, a[3].v));
    const __m512d sd = _mm512_castps_pd(s), td = _mm512_castps_pd(t);
    const __m512 q = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(sd, td)),
                                   _mm512_castpd_ps(_mm512_unpackhi_pd(sd, td)));
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(q), _mm512_extractf32x8_ps(q, 1));
    return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}
GAQ_INLINE void sum4(const Vec* a, float* out) { _mm_storeu_ps(out, four_sums(a)); }
GAQ_INLINE void add_sum4(const Vec* a, float* out) { _mm_storeu_ps(out, _mm_add_ps(_mm_loadu_ps(out), four_sums(a))); }
GAQ_INLINE void sum4_filled(const Vec* a, float* out) { Vec(_mm512_zextps128_ps512(four_sums(a))).store(out); }

#elif defined(GAQ_AVX2)

constexpr int WIDTH = 8;
using Mask = __m256;
struct Vec {
    __m256 v;
    GAQ_INLINE Vec() : v(_mm256_setzero_ps()) {}
    GAQ_INLINE Vec(__m256 x) : v(x) {}
    GAQ_INLINE Vec(float x) : v(_mm256_set1_ps(x)) {}
    static GAQ_INLINE Vec load(const float* p) { return _mm256_loadu_ps(p); }
    GAQ_INLINE void store(float* p) const { _mm256_storeu_ps(p, v); }
};
GAQ_INLINE Vec operator+(Vec a, Vec b) { return _mm256_add_ps(a.v, b.v); }
GAQ_INLINE Vec operator-(Vec a, Vec b) { return _mm256_sub_ps(a.v, b.v); }
GAQ_INLINE Vec operator*(Vec a, Vec b) { return _mm256_mul_ps(a.v, b.v); }
GAQ_INLINE Vec operator/(Vec a, Vec b) { return _mm256_div_ps(a.v, b.v); }
GAQ_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
GAQ_INLINE Vec min(Vec a, Vec b) { return _mm256_min_ps(a.v, b.v); }
GAQ_INLINE Vec max(Vec a, Vec b) { return _mm256_max_ps(a.v, b.v); }
GAQ_INLINE Vec abs(Vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v); }
GAQ_INLINE Vec sqrt(Vec a) { return _mm256_sqrt_ps(a.v); }
GAQ_INLINE Vec round(Vec a) { return _mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
GAQ_INLINE Mask operator>(Vec a, Vec b) { return _mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ); }
GAQ_INLINE Mask operator<=(Vec a, Vec b) { return _mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ); }
GAQ_INLINE Vec select(Mask m, Vec yes, Vec no) { return _mm256_blendv_ps(no.v, yes.v, m); }
GAQ_INLINE Mask both(Mask a, Mask b) { return _mm256_and_ps(a, b); }
GAQ_INLINE int count(Mask m) { return __builtin_popcount(unsigned(_mm256_movemask_ps(m))); }
GAQ_INLINE Vec scale_by_power(Vec a, Vec n) {  // n whole, from -126 to 127
    const __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(a.v, _mm256_castsi256_ps(e));
}
GAQ_INLINE Vec copysign(Vec a, Vec s) {
    const __m256 bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(bit, a.v), _mm256_and_ps(bit, s.v));
}
GAQ_INLINE Vec spread(const float* a, const int32_t* index, int heads) {
    const __m256i i = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index));
    return heads <= 8 ? _mm256_permutevar8x32_ps(_mm256_loadu_ps(a), i) : _mm256_i32gather_ps(a, i, 4);
}
GAQ_INLINE Vec inverse_sqrt(Vec a) { return Vec(1.0f) / sqrt(a); }
GAQ_INLINE __m256i first_lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
GAQ_INLINE Vec first(const float* p, int n) { return _mm256_maskload_ps(p, first_lanes(n)); }
GAQ_INLINE void store_first(float* p, int n, Vec a) { _mm256_maskstore_ps(p, first_lanes(n), a.v); }
GAQ_INLINE Vec difference(const double* b, const double* a, int) {
    const __m256d low = _mm256_sub_pd(_mm256_loadu_pd(b), _mm256_loadu_pd(a));
    const __m256d high = _mm256_sub_pd(_mm256_loadu_pd(b + 4), _mm256_loadu_pd(a + 4));
    return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low));
}
GAQ_INLINE Vec square(const double* b, const double* a, int stride, int rows, int) {
    __m256d low = _mm256_setzero_pd(), high = low;
#pragma GCC unroll 9
    for (int k = 0; k < rows; ++k) {
        const __m256d c = _mm256_sub_pd(_mm256_loadu_pd(b + k * stride), _mm256_loadu_pd(a + k * stride));
        const __m256d d = _mm256_sub_pd(_mm256_loadu_pd(b + k * stride + 4), _mm256_loadu_pd(a + k * stride + 4));
        low = _mm256_add_pd(low, _mm256_mul_pd(c, c));
        high = _mm256_add_pd(high, _mm256_mul_pd(d, d));
    }
    return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low));
}
GAQ_INLINE __m128 four_sums(const Vec* a) {
    const __m256 q = _mm256_hadd_ps(_mm256_hadd_ps(a[0].v, a[1].v), _mm256_hadd_ps(a[2].v, a[3].v));
    return _mm_add_ps(_mm256_castps256_ps128(q), _mm256_extractf128_ps(q, 1));
}
GAQ_INLINE void sum4(const Vec* a, float* out) { _mm_storeu_ps(out, four_sums(a)); }
GAQ_INLINE void add_sum4(const Vec* a, float* out) { _mm_storeu_ps(out, _mm_add_ps(_mm_loadu_ps(out), four_sums(a))); }
GAQ_INLINE void sum4_filled(const Vec* a, float* out) { Vec(_mm256_zextps128_ps256(four_sums(a))).store(out); }
GAQ_INLINE float sum(Vec a) {
    const Vec row[4] = {a, Vec(), Vec(), Vec()};
    float out[4];
    sum4(row, out);
    return out[0];
}

#else

constexpr int WIDTH = 1;
using Mask = bool;
struct Vec {
    float v;
    GAQ_INLINE Vec() : v(0.0f) {}
    GAQ_INLINE Vec(float x) : v(x) {}
    static GAQ_INLINE Vec load(const float* p) { return *p; }
    GAQ_INLINE void store(float* p) const { *p = v; }
};
GAQ_INLINE Vec operator+(Vec a, Vec b) { return a.v + b.v; }
GAQ_INLINE Vec operator-(Vec a, Vec b) { return a.v - b.v; }
GAQ_INLINE Vec operator*(Vec a, Vec b) { return a.v * b.v; }
GAQ_INLINE Vec operator/(Vec a, Vec b) { return a.v / b.v; }
GAQ_INLINE Vec fma(Vec a, Vec b, Vec c) {  // as exact as a fused one, which is slow without its instruction
    return float(double(a.v) * double(b.v) + double(c.v));
}
GAQ_INLINE Vec min(Vec a, Vec b) { return a.v < b.v ? a.v : b.v; }
GAQ_INLINE Vec max(Vec a, Vec b) { return a.v > b.v ? a.v : b.v; }
GAQ_INLINE Vec abs(Vec a) { return std::fabs(a.v); }
GAQ_INLINE Vec sqrt(Vec a) { return std::sqrt(a.v); }
GAQ_INLINE Vec round(Vec a) { return std::nearbyintf(a.v); }
GAQ_INLINE Mask operator>(Vec a, Vec b) { return a.v > b.v; }
GAQ_INLINE Mask operator<=(Vec a, Vec b) { return a.v <= b.v; }
GAQ_INLINE Vec select(Mask m, Vec yes, Vec no) { return m ? yes : no; }
GAQ_INLINE Mask both(Mask a, Mask b) { return a && b; }
GAQ_INLINE int count(Mask m) { return m; }
GAQ_INLINE Vec scale_by_power(Vec a, Vec n) {
    const int32_t bits = n.v == n.v ? (int32_t(n.v) + 127) << 23 : 0;  // a is NaN too
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return a.v * power;
}
GAQ_INLINE Vec copysign(Vec a, Vec s) { return std::copysign(a.v, s.v); }
GAQ_INLINE Vec spread(const float* a, const int32_t* index, int) { return a[*index]; }
GAQ_INLINE float sum(Vec a) { return a.v; }
GAQ_INLINE Vec inverse_sqrt(Vec a) { return Vec(1.0f) / sqrt(a); }
GAQ_INLINE Vec first(const float* p, int n) { return n > 0 ? *p : 0.0f; }
GAQ_INLINE void store_first(float* p, int n, Vec a) {
    if (n > 0) *p = a.v;
}
GAQ_INLINE Vec difference(const double* b, const double* a, int) { return float(*b - *a); }
GAQ_INLINE Vec square(const double* b, const double* a, int stride, int rows, int) {
    double total = 0.0;
    for (int k = 0; k < rows; ++k) {
        const double d = b[k * stride] - a[k * stride];
        total += d * d;
    }
    return float(total);
}
GAQ_INLINE void sum4(const Vec* a, float* out) {
    for (int k = 0; k < 4; ++k) out[k] = a[k].v;
}
GAQ_INLINE void add_sum4(const Vec* a, float* out) {
    for (int k = 0; k < 4; ++k) out[k] += a[k].v;
}
GAQ_INLINE void sum4_filled(const Vec* a, float* out) { sum4(a, out); }

#endif

// Of each instruction set:
//   inverse_sqrt: within 2 ulp
//   first, store_first: the first n lanes, zero beyond; nothing beyond is touched
//   difference, square: b - a, and the sum of its squares over `rows`, of n doubles as floats; n is 8 or more, WIDTH is enough
//   sum4: out[k] = sum of the lanes of a[k], k = 0..3; add_sum4 adds them; sum4_filled writes a whole vector (zero beyond), which can be loaded as
//   one at once: a load from several stores that are still under way has to wait for all of them
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
    const Vec near = x * d.inverse;
    return fma(fma(Vec(0.0f) - near, d.value, x), d.inverse, near);
}

// sqrt(a) with its inverse, to divide by.
GAQ_INLINE Divisor root(Vec a) {
    const Vec inverse = inverse_sqrt(a), near = a * inverse;
    return {fma(fma(Vec(0.0f) - near, near, a), inverse * Vec(0.5f), near), inverse};
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
    const Vec near = fma(p * z, x, x);
    const Vec far = Vec(1.0f) - Vec(2.0f) / (exp(a + a) + Vec(1.0f)) + poison(a);
    return select(a > Vec(0.625f), copysign(far, x), near);
}

GAQ_INLINE Vec sigmoid(Vec x) { return Vec(1.0f) / (Vec(1.0f) + exp(Vec(0.0f) - x)); }

}  // namespace GAQ_ISA
}  // namespace gaq
