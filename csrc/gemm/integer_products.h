// The same products in whole numbers: activations of up to 8 bits times four, or of up to 16 bits times two, to a step.
//
// Weights are stored as w + zero (8 or 128), never negative, so that they can be the unsigned side of an int8 product, and
// a nibble needs no sign extension. What that adds, zero * sum_k x[k], is taken off in the accumulator's first value.
// Sums wrap at 2^32 on the way; where they end was proved to fit when the model was read.
#pragma once

#include "gemm/float_products.h"

namespace gaq::GAQ_ISA {

struct Codes {       // rows of codes, (rows, in) of one of the two types, and their sums
    int8_t* narrow;  // in order
    int16_t* wide;   // within each four: 0, 2, 1, 3
    int32_t* sum;
};

#if defined(GAQ_AVX512)
constexpr bool HAS_NARROW = true;
using IntVec = __m512i;
GAQ_INLINE IntVec int_vec(int32_t n) { return _mm512_set1_epi32(n); }
GAQ_INLINE IntVec masked(Word w, uint32_t mask) { return _mm512_and_si512(w, _mm512_set1_epi32(int32_t(mask))); }
GAQ_INLINE IntVec dot4(IntVec total, IntVec w, int32_t x) { return _mm512_dpbusd_epi32(total, w, _mm512_set1_epi32(x)); }
GAQ_INLINE IntVec dot2(IntVec total, IntVec w, int32_t x) { return _mm512_dpwssd_epi32(total, w, _mm512_set1_epi32(x)); }
GAQ_INLINE Vec to_float(IntVec n) { return _mm512_cvtepi32_ps(n); }
#elif defined(GAQ_AVX2)
constexpr bool HAS_NARROW = false;
using IntVec = __m256i;
GAQ_INLINE IntVec int_vec(int32_t n) { return _mm256_set1_epi32(n); }
GAQ_INLINE IntVec masked(Word w, uint32_t mask) { return _mm256_and_si256(w, _mm256_set1_epi32(int32_t(mask))); }
GAQ_INLINE IntVec dot4(IntVec total, IntVec, int32_t) { return total; }
GAQ_INLINE IntVec dot2(IntVec total, IntVec w, int32_t x) {
    return _mm256_add_epi32(total, _mm256_madd_epi16(w, _mm256_set1_epi32(x)));
}
GAQ_INLINE Vec to_float(IntVec n) { return _mm256_cvtepi32_ps(n); }
GAQ_INLINE IntVec add_rounded(IntVec n, Vec t) { return _mm256_add_epi32(n, _mm256_cvtps_epi32(t.v)); }
#else
constexpr bool HAS_NARROW = false;
using IntVec = uint32_t;
GAQ_INLINE IntVec int_vec(int32_t n) { return uint32_t(n); }
GAQ_INLINE IntVec masked(Word w, uint32_t mask) { return w & mask; }
GAQ_INLINE IntVec dot4(IntVec total, IntVec, int32_t) { return total; }
GAQ_INLINE IntVec dot2(IntVec total, IntVec w, int32_t x) {
    const uint32_t low = uint32_t(int32_t(int16_t(x & 0xFFFF))), high = uint32_t(x >> 16);
    return total + (w & 0xFFFF) * low + (w >> 16) * high;
}
GAQ_INLINE Vec to_float(IntVec n) { return float(int32_t(n)); }
GAQ_INLINE IntVec add_rounded(IntVec n, Vec t) { return n + IntVec(int32_t(t.v)); }
#endif

template <class T>
GAQ_INLINE int32_t four_bytes(const T* p) {
    int32_t n;
    __builtin_memcpy(&n, p, 4);
    return n;
}

// One step of eight inputs (nibbles) or four (bytes), times four or times two.
template <WeightKind kind, bool narrow>
struct Step {
    static constexpr int GROUP = kind == WeightKind::nibble ? 8 : 4;
    static constexpr int COUNT = GROUP / (narrow ? 4 : 2);
    static GAQ_INLINE IntVec weights(Word w, int n) {
        if (kind == WeightKind::nibble && narrow) return masked(shifted(w, 4 * n), 0x0F0F0F0Fu);
        if (kind == WeightKind::nibble) return masked(shifted(w, n % 2 * 8 + n / 2 * 4), 0x000F000Fu);
        return narrow ? w : masked(shifted(w, 8 * n), 0x00FF00FFu);
    }
};

template <WeightKind kind, bool narrow, int R, int B>
void integer_block(const Codes& x, int row, const Panel& panel, int block, const float* scale, const float* bias,
                   const Rows& y) {
    using S = Step<kind, narrow>;
    constexpr int N = B * PARTS;
    constexpr int32_t zero = kind == WeightKind::nibble ? 8 : 128;
    IntVec total[R][N];
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n) total[r][n] = int_vec(int32_t(0u - uint32_t(zero) * uint32_t(x.sum[row + r])));
    const size_t span = size_t(panel.in / S::GROUP) * LANES;
    const uint32_t* data = static_cast<const uint32_t*>(panel.data) + block * span;
    const int8_t* narrow_rows = x.narrow + size_t(row) * panel.in;
    const int16_t* wide_rows = x.wide + size_t(row) * panel.in;
    for (int k = 0; k < panel.in; k += S::GROUP, data += LANES) {
        Word words[N];
        for (int n = 0; n < N; ++n) words[n] = word(data + (n / PARTS) * span + n % PARTS * WIDTH);
#pragma GCC unroll 4
        for (int j = 0; j < S::COUNT; ++j) {
            IntVec w[N];
            for (int n = 0; n < N; ++n) w[n] = S::weights(words[n], j);
#pragma GCC unroll 12
            for (int r = 0; r < R; ++r) {
                const int32_t a = narrow ? four_bytes(narrow_rows + size_t(r) * panel.in + k + 4 * j)
                                         : four_bytes(wide_rows + size_t(r) * panel.in + k + 2 * j);
                for (int n = 0; n < N; ++n) total[r][n] = narrow ? dot4(total[r][n], w[n], a) : dot2(total[r][n], w[n], a);
            }
        }
    }
    for (int n = 0; n < N; ++n) {
        const int o = block * LANES + n * WIDTH;
        const Vec s = load(scale + o), b = bias ? load(bias + o) : Vec();
        for (int r = 0; r < R; ++r) fma(to_float(total[r][n]), s, b).store(y[row + r] + o);
    }
}

template <WeightKind kind, bool narrow>
struct IntegerRun {
    const Codes& x;
    const Panel& panel;
    const float *scale, *bias;
    const Rows& y;
    template <int R>
    GAQ_INLINE void rows(int row) const {
        constexpr int B = WIDTH == 16 ? 2 : 1;
        const int blocks = panel.out / LANES;
        int b = 0;
        for (; b + B <= blocks; b += B) integer_block<kind, narrow, R, B>(x, row, panel, b, scale, bias, y);
        for (; b < blocks; ++b) integer_block<kind, narrow, R, 1>(x, row, panel, b, scale, bias, y);
    }
};

// y = (x . W) scale + bias for rows of codes, in whole numbers up to the scale.
inline void multiply_codes(const Panel& panel, const Codes& x, bool narrow, const float* scale, const float* bias,
                           const Rows& y, int rows) {
    if (panel.kind == WeightKind::nibble && narrow)
        for_row_blocks(rows, IntegerRun<WeightKind::nibble, HAS_NARROW>{x, panel, scale, bias, y});
    else if (panel.kind == WeightKind::nibble)
        for_row_blocks(rows, IntegerRun<WeightKind::nibble, false>{x, panel, scale, bias, y});
    else if (narrow) for_row_blocks(rows, IntegerRun<WeightKind::byte, HAS_NARROW>{x, panel, scale, bias, y});
    else for_row_blocks(rows, IntegerRun<WeightKind::byte, false>{x, panel, scale, bias, y});
}

// Codes of 16 values that are whole already, added to `total`.
GAQ_INLINE void store_codes(const Vec* t, IntVec* total, int8_t* narrow, int16_t* wide) {
#if defined(GAQ_AVX512)
    const __m512i n = _mm512_cvtps_epi32(t[0].v);
    if (narrow) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(narrow), _mm512_cvtepi32_epi8(n));
    } else {
        const __m256i h = _mm512_cvtepi32_epi16(n);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(wide),
                            _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(h, 0xD8), 0xD8));
    }
    total[0] = _mm512_add_epi32(total[0], n);
#else
    float values[LANES];
    for (int q = 0; q < PARTS; ++q) {
        t[q].store(values + q * WIDTH);
        total[q] = add_rounded(total[q], t[q]);
    }
    static const int order[4] = {0, 2, 1, 3};
    (void)narrow;
    for (int c = 0; c < LANES; ++c) wide[c] = int16_t(values[c / 4 * 4 + order[c % 4]]);
#endif
}

// The sum of all lanes of PARTS vectors.
GAQ_INLINE int32_t sum_of(const IntVec* total) {
#if defined(GAQ_AVX512)
    const __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(total[0]), _mm512_extracti64x4_epi64(total[0], 1));
    __m128i q = _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4E));  // wraps, as the products do
    return _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 0xB1)));
#else
    uint32_t lanes[LANES], sum = 0;  // wraps, as the products do
    __builtin_memcpy(lanes, total, sizeof lanes);
    for (int c = 0; c < LANES; ++c) sum += lanes[c];
    return int32_t(sum);
#endif
}

}  // namespace gaq::GAQ_ISA
