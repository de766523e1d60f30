// Sixteen lanes with AVX-512.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "simd/isa.h"

namespace gaq::GAQ_ISA {

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
GAQ_INLINE Vec lookup(const float* a, const int32_t* index, int heads) {
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
    const __m512 q =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(sd, td)), _mm512_castpd_ps(_mm512_unpackhi_pd(sd, td)));
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(q), _mm512_extractf32x8_ps(q, 1));
    return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}
GAQ_INLINE void sum4(const Vec* a, float* out) { _mm_storeu_ps(out, four_sums(a)); }
GAQ_INLINE void add_sum4(const Vec* a, float* out) { _mm_storeu_ps(out, _mm_add_ps(_mm_loadu_ps(out), four_sums(a))); }
GAQ_INLINE void sum4_filled(const Vec* a, float* out) { Vec(_mm512_zextps128_ps512(four_sums(a))).store(out); }

}  // namespace gaq::GAQ_ISA
