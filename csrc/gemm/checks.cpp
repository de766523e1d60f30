// Compiled once for each instruction set, with -DGAQ_AVX512, -DGAQ_AVX2 or neither.
#include "gemm/checks.h"

#include "gemm/integer_products.h"

namespace gaq {
namespace GAQ_ISA {
namespace {

// Whether whole-number products of this processor are right: one well-known library returns bad_blob ones on some.
bool self_test() {
    constexpr int IN = 32, OUT = 32;
    alignas(64) uint32_t words[2][OUT / LANES * IN / 4 * LANES] = {};
    int weight[2][OUT][IN];
    uint32_t state = 12345;
    const auto draw = [&state](int low, int high) {
        state = state * 1664525u + 1013904223u;
        return low + int((state >> 8) % uint32_t(high - low + 1));
    };
    for (int kind = 0; kind < 2; ++kind)
        for (int o = 0; o < OUT; ++o)
            for (int k = 0; k < IN; ++k) {
                const int w = kind ? draw(-127, 127) : draw(-7, 7);
                weight[kind][o][k] = w;
                const int group = kind ? 4 : 8, bits = kind ? 8 * (k % 4) : 4 * NIBBLE_OF[k % 8];
                words[kind][(o / LANES * (IN / group) + k / group) * LANES + o % LANES] |= uint32_t(w + (kind ? 128 : 8))
                                                                                           << bits;
            }
    alignas(64) int8_t narrow[2][IN];
    alignas(64) int16_t wide[2][IN];
    alignas(64) float ones[OUT], result[2][OUT];
    for (float& one : ones) one = 1.0f;
    static const int order[4] = {0, 2, 1, 3};
    for (int high = 127; high <= 32767; high += 32640) {  // 8 and 16 bits
        int x[2][IN];
        int32_t total[2] = {0, 0};
        for (int r = 0; r < 2; ++r)
            for (int k = 0; k < IN; ++k) total[r] += x[r][k] = k ? draw(-high, high) : -high;
        for (int r = 0; r < 2; ++r)
            for (int k = 0; k < IN; ++k) {
                narrow[r][k] = int8_t(high == 127 ? x[r][k] : 0);
                wide[r][k] = int16_t(x[r][k / 4 * 4 + order[k % 4]]);
            }
        for (int kind = 0; kind < 2; ++kind) {
            const Panel panel = {kind ? WeightKind::byte : WeightKind::nibble, IN, OUT, words[kind], false};
            multiply_codes(panel, Codes{narrow[0], wide[0], total}, HAS_NARROW && high == 127, ones, nullptr,
                           Rows(result[0], OUT), 2);
            for (int r = 0; r < 2; ++r)
                for (int o = 0; o < OUT; ++o) {
                    int64_t expected = 0;
                    for (int k = 0; k < IN; ++k) expected += int64_t(weight[kind][o][k]) * x[r][k];
                    if (result[r][o] != float(expected)) return false;
                }
        }
    }
    return true;
}

double throughput(Ceiling kind, int64_t repeats, const float* memory, size_t count) {
    constexpr int N = WIDTH == 1 ? 8 : WIDTH == 8 ? 12 : 24;
    double done = 0.0;
    float sink = 0.0f;
    if (kind == Ceiling::float32) {
        Vec total[N];
        const Vec a(memory[0]);
        Vec b(memory[1]);
        for (int64_t n = 0; n < repeats; ++n)
#pragma GCC unroll 24
            for (int k = 0; k < N; ++k) total[k] = fma(a, b, total[k]);
        for (int k = 0; k < N; ++k) sink += sum(total[k]);
        done = 2.0 * N * WIDTH * double(repeats);
    } else if (kind != Ceiling::bandwidth) {
        IntVec total[N];
        for (int k = 0; k < N; ++k) total[k] = int_vec(k);
        const Word w = word(reinterpret_cast<const uint32_t*>(memory));
        for (int64_t n = 0; n < repeats; ++n)
#pragma GCC unroll 24
            for (int k = 0; k < N; ++k)
                total[k] = kind == Ceiling::int8 && HAS_NARROW ? dot4(total[k], w, 3) : dot2(total[k], w, 3);
        for (int k = 0; k < N; ++k) sink += sum(to_float(total[k]));
        done = (kind == Ceiling::int8 && HAS_NARROW ? 8.0 : 4.0) * N * WIDTH * double(repeats);
    } else {
        Vec total[8];
        for (int64_t n = 0; n < repeats; ++n)
            for (size_t c = 0; c + 8 * WIDTH <= count; c += 8 * WIDTH)
                for (int k = 0; k < 8; ++k) total[k] = total[k] + load(memory + c + k * WIDTH);
        for (int k = 0; k < 8; ++k) sink += sum(total[k]);
        done = double(count) * sizeof(float) * double(repeats);
    }
    volatile float kept = sink;  // or the compiler would leave all of it out
    (void)kept;
    return done;
}

}  // namespace
}  // namespace GAQ_ISA

const Checks GAQ_OF_ISA(checks) = {GAQ_ISA::self_test, GAQ_ISA::throughput};

}  // namespace gaq
