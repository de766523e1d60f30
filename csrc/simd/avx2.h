// Eight lanes with AVX2 and FMA.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "simd/isa.h"

namespace gaq::GAQ_ISA {

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
GAQ_INLINE Vec lookup(const float* a, const int32_t* index, int heads) {
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

}  // namespace gaq::GAQ_ISA
