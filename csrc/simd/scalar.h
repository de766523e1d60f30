// One lane without vector instructions: what every processor computes.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "simd/isa.h"

namespace gaq::GAQ_ISA {

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
GAQ_INLINE Vec lookup(const float* a, const int32_t* index, int) { return a[*index]; }
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

}  // namespace gaq::GAQ_ISA
