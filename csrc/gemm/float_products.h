// Products of a few rows with a panel of weights: y[r][o] = sum_k x[r][k] w[o][k], in float or in whole numbers.
//
// A block of up to ROWS rows stays in registers with two vectors of outputs; weights stream from the panel and codes are
// decoded as they pass, once for all rows of the block.
#pragma once

#include "gemm/panel.h"
#include "simd/vector.h"

namespace gaq::GAQ_ISA {

constexpr int ROWS = WIDTH == 16 ? 12 : WIDTH == 8 ? 6 : 2;
constexpr int PARTS = LANES / WIDTH;  // vectors in a group of 16 outputs

// The weights of 16 outputs for one input k, as floats.
struct FloatSource {
    static constexpr int GROUP = 8;
    const float* data;
    GAQ_INLINE FloatSource(const Panel& p, int block)
        : data(static_cast<const float*>(p.data) + size_t(block) * p.in * LANES) {}
    GAQ_INLINE void next(int) {}
    GAQ_INLINE Vec at(int k, int j, int part) const { return load(data + (size_t(k) + j) * LANES + part * WIDTH); }
};

#if defined(GAQ_AVX512)
using Word = __m512i;
GAQ_INLINE Word word(const uint32_t* p) { return _mm512_loadu_si512(p); }
GAQ_INLINE Word shifted(Word w, int bits) { return _mm512_srli_epi32(w, unsigned(bits)); }
#elif defined(GAQ_AVX2)
using Word = __m256i;
GAQ_INLINE Word word(const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
GAQ_INLINE Word shifted(Word w, int bits) { return _mm256_srli_epi32(w, bits); }
#else
using Word = uint32_t;
GAQ_INLINE Word word(const uint32_t* p) { return *p; }
GAQ_INLINE Word shifted(Word w, int bits) { return w >> bits; }
#endif

GAQ_INLINE Vec nibble_value(Word w, int bits) {  // the nibble from this bit on, less 8
#if defined(GAQ_AVX512)
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    return _mm512_permutexvar_ps(shifted(w, bits), values);  // looks at the lowest four bits only
#elif defined(GAQ_AVX2)
    const __m256i n = _mm256_and_si256(shifted(w, bits), _mm256_set1_epi32(15));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(n, _mm256_set1_epi32(8)));
#else
    return float(int((w >> bits) & 15) - 8);
#endif
}

GAQ_INLINE Vec byte_value(Word w, int bits) {  // the byte from this bit on, less 128
#if defined(GAQ_AVX512)
    const __m512i n = _mm512_and_si512(shifted(w, bits), _mm512_set1_epi32(255));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(n, _mm512_set1_epi32(128)));
#elif defined(GAQ_AVX2)
    const __m256i n = _mm256_and_si256(shifted(w, bits), _mm256_set1_epi32(255));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(n, _mm256_set1_epi32(128)));
#else
    return float(int((w >> bits) & 255) - 128);
#endif
}

// The codes of 16 inputs of one output as WIDTH floats from input `part * WIDTH` on: words of a panel, LANES apart.
template <WeightKind kind>
GAQ_INLINE Vec transposed_codes(const uint32_t* words, int part) {
    constexpr bool nibble = kind == WeightKind::nibble;
#if defined(GAQ_AVX512)
    (void)part;
    __m512i w = _mm512_set1_epi32(int32_t(words[0]));
    if (nibble) {
        w = _mm512_mask_set1_epi32(w, 0xFF00, int32_t(words[LANES]));
        return nibble_value(
            _mm512_srlv_epi32(w, _mm512_setr_epi32(0, 8, 16, 24, 4, 12, 20, 28, 0, 8, 16, 24, 4, 12, 20, 28)), 0);
    }
    for (int n = 1; n < 4; ++n) w = _mm512_mask_set1_epi32(w, __mmask16(0xF << 4 * n), int32_t(words[n * LANES]));
    return byte_value(_mm512_srlv_epi32(w, _mm512_setr_epi32(0, 8, 16, 24, 0, 8, 16, 24, 0, 8, 16, 24, 0, 8, 16, 24)), 0);
#elif defined(GAQ_AVX2)
    if (nibble)
        return nibble_value(_mm256_srlv_epi32(_mm256_set1_epi32(int32_t(words[part * LANES])),
                                              _mm256_setr_epi32(0, 8, 16, 24, 4, 12, 20, 28)),
                            0);
    const uint32_t* two = words + 2 * part * LANES;
    const __m256i w = _mm256_blend_epi32(_mm256_set1_epi32(int32_t(two[0])), _mm256_set1_epi32(int32_t(two[LANES])), 0xF0);
    return byte_value(_mm256_srlv_epi32(w, _mm256_setr_epi32(0, 8, 16, 24, 0, 8, 16, 24)), 0);
#else
    return nibble ? nibble_value(words[part / 8 * LANES], 4 * NIBBLE_OF[part % 8])
                  : byte_value(words[part / 4 * LANES], 8 * (part % 4));
#endif
}

struct NibbleSource {
    static constexpr int GROUP = 8;
    const uint32_t* data;
    Word words[PARTS];
    GAQ_INLINE NibbleSource(const Panel& p, int block)
        : data(static_cast<const uint32_t*>(p.data) + size_t(block) * (p.in / 8) * LANES) {}
    GAQ_INLINE void next(int k) {
        for (int q = 0; q < PARTS; ++q) words[q] = word(data + size_t(k / 8) * LANES + q * WIDTH);
    }
    GAQ_INLINE Vec at(int, int j, int part) const { return nibble_value(words[part], 4 * NIBBLE_OF[j]); }
};

struct ByteSource {
    static constexpr int GROUP = 4;
    const uint32_t* data;
    Word words[PARTS];
    GAQ_INLINE ByteSource(const Panel& p, int block)
        : data(static_cast<const uint32_t*>(p.data) + size_t(block) * (p.in / 4) * LANES) {}
    GAQ_INLINE void next(int k) {
        for (int q = 0; q < PARTS; ++q) words[q] = word(data + size_t(k / 4) * LANES + q * WIDTH);
    }
    GAQ_INLINE Vec at(int, int j, int part) const { return byte_value(words[part], 8 * j); }
};

// Either kind for the transposed product: its inputs are the lanes of the words, its outputs lie within them.
template <WeightKind kind>
struct TransposedSource {
    static constexpr int GROUP = 8;
    const uint32_t* data;
    size_t span;  // from 16 inputs to the next
    GAQ_INLINE TransposedSource(const Panel& p, int block) {
        const int each = kind == WeightKind::nibble ? 8 : 4;
        data = static_cast<const uint32_t*>(p.data) + size_t(block) * (LANES / each) * LANES;
        span = size_t(p.out / each) * LANES;
    }
    GAQ_INLINE void next(int) {}
    GAQ_INLINE Vec at(int k, int j, int part) const {
        return transposed_codes<kind>(data + k / LANES * span + k % LANES + j, part);
    }
};

// Rows of a matrix that may lie in groups, as those of one degree of the vector features of many atoms.
template <class T>
struct RowsOf {
    T* first;
    size_t stride;
    int group;
    size_t jump;  // from group to group
    GAQ_INLINE RowsOf(T* p, size_t apart) : first(p), stride(apart), group(1), jump(apart) {}
    GAQ_INLINE RowsOf(T* p, size_t apart, int rows, size_t groups_apart)
        : first(p), stride(apart), group(rows), jump(groups_apart) {}
    GAQ_INLINE T* operator[](int r) const {
        return group == 1 ? first + r * jump : first + size_t(r / group) * jump + size_t(r % group) * stride;
    }
};
using Rows = RowsOf<float>;
using ConstRows = RowsOf<const float>;

// One block: R rows, from `row` on, times B groups of 16 outputs.
template <class Source, int R, int B>
void float_block(const float* x, size_t stride, const Panel& panel, int block, const Rows& y, int row) {
    constexpr int N = B * PARTS;
    Vec total[R][N];
    Source first(panel, block), second(panel, B == 2 ? block + 1 : block);
    for (int k = 0; k < panel.in; k += Source::GROUP) {
        first.next(k);
        if (B == 2) second.next(k);
#pragma GCC unroll 8
        for (int j = 0; j < Source::GROUP; ++j) {
            Vec w[N];
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) w[n] = n < PARTS ? first.at(k, j, n) : second.at(k, j, n - PARTS);
#pragma GCC unroll 12
            for (int r = 0; r < R; ++r) {
                const Vec a(x[r * stride + k + j]);
#pragma GCC unroll 16
                for (int n = 0; n < N; ++n) total[r][n] = fma(a, w[n], total[r][n]);
            }
        }
    }
    for (int r = 0; r < R; ++r) {
        float* place = y[row + r] + block * LANES;
        for (int n = 0; n < N; ++n) total[r][n].store(place + n * WIDTH);
    }
}

// Codes of `groups` groups of 16 outputs as the floats of a panel.
template <class Source>
void decode(const Panel& panel, int block, int groups, float* to) {
    for (int b = 0; b < groups; ++b, to += size_t(panel.in) * LANES) {
        Source from(panel, block + b);
        for (int k = 0; k < panel.in; k += Source::GROUP) {
            from.next(k);
#pragma GCC unroll 8
            for (int j = 0; j < Source::GROUP; ++j)
                for (int q = 0; q < PARTS; ++q) from.at(k, j, q).store(to + size_t(k + j) * LANES + q * WIDTH);
        }
    }
}

template <class Source, int R>
void float_rows(const float* x, size_t stride, const Panel& panel, const Rows& y, int row) {
    constexpr int B = WIDTH == 16 ? 2 : 1;
    const int blocks = panel.out / LANES;
    int b = 0;
    for (; b + B <= blocks; b += B) float_block<Source, R, B>(x, stride, panel, b, y, row);
    for (; b < blocks; ++b) float_block<Source, R, 1>(x, stride, panel, b, y, row);
}

constexpr int rows_or_one(int rows) { return rows <= ROWS ? rows : 1; }

// Call run.rows<R>(first row) for blocks of R = ROWS rows as long as they last, then smaller ones.
template <class Run>
void for_row_blocks(int rows, const Run& run) {
    int row = 0;
    while (rows - row >= ROWS && !(ROWS == 12 && rows - row > 12 && rows - row < 16))
        run.template rows<ROWS>(row), row += ROWS;
    if (ROWS > 9 && rows - row >= 9) run.template rows<rows_or_one(9)>(row), row += 9;
    if (ROWS > 6 && rows - row >= 6) run.template rows<rows_or_one(6)>(row), row += 6;
    if (ROWS > 4 && rows - row >= 4) run.template rows<rows_or_one(4)>(row), row += 4;
    if (ROWS > 2 && rows - row >= 2) run.template rows<rows_or_one(2)>(row), row += 2;
    for (; row < rows; ++row) run.template rows<1>(row);
}

template <class Source>
struct FloatRun {
    const float* x;
    size_t stride;
    const Panel& panel;
    const Rows& y;
    template <int R>
    GAQ_INLINE void rows(int row) const {
        float_rows<Source, R>(x + row * stride, stride, panel, y, row);
    }
};

// The product with a panel of codes: decoded as they pass where one block of rows is all, or else once for all blocks.
template <class Source>
void multiply_coded(const Panel& panel, const float* x, size_t stride, const Rows& y, int rows, float* decoded) {
    if (rows <= ROWS) {
        for_row_blocks(rows, FloatRun<Source>{x, stride, panel, y});
        return;
    }
    const int blocks = panel.out / LANES;
    for (int b = 0; b < blocks; b += 2) {
        const int groups = blocks - b < 2 ? 1 : 2;
        decode<Source>(panel, b, groups, decoded);
        const Panel part = {WeightKind::float32, panel.in, groups * LANES, decoded, false};
        Rows there = y;
        there.first += b * LANES;
        for_row_blocks(rows, FloatRun<FloatSource>{x, stride, part, there});
    }
}

// y = x . W, rows of x apart by stride floats; `decoded` has room for two groups of outputs.
inline void multiply(const Panel& panel, const float* x, size_t stride, const Rows& y, int rows, float* decoded) {
    switch (panel.kind) {
        case WeightKind::float32: for_row_blocks(rows, FloatRun<FloatSource>{x, stride, panel, y}); break;
        case WeightKind::nibble:
            panel.transposed ? multiply_coded<TransposedSource<WeightKind::nibble>>(panel, x, stride, y, rows, decoded)
                             : multiply_coded<NibbleSource>(panel, x, stride, y, rows, decoded);
            break;
        case WeightKind::byte:
            panel.transposed ? multiply_coded<TransposedSource<WeightKind::byte>>(panel, x, stride, y, rows, decoded)
                             : multiply_coded<ByteSource>(panel, x, stride, y, rows, decoded);
            break;
    }
}

}  // namespace gaq::GAQ_ISA
