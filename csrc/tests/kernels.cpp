// Each kernel apart from whole models, against plain double precision; compiled once for each instruction set.
#include <algorithm>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gemm/packing.h"
#include "models/transformer/filters.h"
#include "models/transformer/frames.h"
#include "models/transformer/interaction.h"

using namespace gaq;
using namespace gaq::GAQ_ISA;
using namespace gaq::transformer;
using namespace gaq::transformer::GAQ_ISA;

namespace {

int failures = 0;
std::mt19937 source(1);
const float INF = HUGE_VALF, NOT = NAN;

void expect(bool holds, const std::string& what) {
    if (!holds && ++failures < 20) std::printf("FAILED: %s\n", what.c_str());
}
bool close_to(double found, double expected, double tolerance) { return std::fabs(found - expected) <= tolerance; }
double draw(double low, double high) { return std::uniform_real_distribution<double>(low, high)(source); }
int whole_number(int low, int high) { return std::uniform_int_distribution<int>(low, high)(source); }
Places in_order(int n) {
    Places places(static_cast<size_t>(n));
    std::iota(places.begin(), places.end(), 0);
    return places;
}

// One function of floats on a whole vector at a time.
template <class F>
float lane(F f, float x) {
    float row[64];
    std::fill(row, row + 64, x);
    f(load(row)).store(row);
    for (int k = 1; k < WIDTH; ++k) expect(!std::memcmp(row, row + k, 4), "lanes agree");
    return row[0];
}

void functions() {
    for (int n = 0; n < 20000; ++n) {
        const float x = float(draw(-87, 88)), t = float(draw(-12, 12)), a = float(std::exp(draw(-40, 40))),
                    b = float(std::exp(draw(-20, 20)));
        expect(close_to(lane([](Vec v) { return exp(v); }, x) / std::exp(double(x)), 1, 1.5e-7), "exp");
        expect(close_to(lane([](Vec v) { return tanh(v); }, t), std::tanh(double(t)), 2.5e-7), "tanh");
        expect(close_to(lane([](Vec v) { return sigmoid(v); }, t), 1 / (1 + std::exp(-double(t))), 2.5e-7), "sigmoid");
        expect(close_to(lane([](Vec v) { return inverse_sqrt(v); }, a) * std::sqrt(double(a)), 1, 2.5e-7), "inverse_sqrt");
        expect(lane([](Vec v) { return root(v).value; }, a) == std::sqrt(a) ||
                   close_to(lane([](Vec v) { return root(v).value; }, a) / std::sqrt(double(a)), 1, 7e-8),
               "root");
        expect(lane([b](Vec v) { return v / Divisor(Vec(b)); }, a) == a / b, "a division by a known divisor has its bits");
        expect(lane([](Vec v) { return round(v); }, t) == std::nearbyint(t), "round");
    }
    for (float half = -4.5f; half < 5; half += 1)
        expect(lane([](Vec v) { return round(v); }, half) == std::nearbyint(half), "halves go to even");
    expect(lane([](Vec v) { return exp(v); }, 1e30f) > 1e38f && lane([](Vec v) { return exp(v); }, -1e30f) < 1e-37f,
           "exp is clamped");
    for (float x : {NOT, INF, -INF})
        expect(!std::isfinite(lane([](Vec v) { return tanh(v) + poison(v); }, x)) &&
                   !std::isfinite(lane([](Vec v) { return tanh(v); }, x)),
               "poison");
    expect(std::isnan(lane([](Vec v) { return exp(v); }, NOT)) && std::isnan(lane([](Vec v) { return sigmoid(v); }, NOT)),
           "exp of NaN");
    expect(std::isnan(lane([](Vec v) { return rounded_code(v, Vec(-7.0f), Vec(7.0f)); }, NOT)), "NaN has no code");
    for (float x : {INF, -INF, 1e30f, -7.6f})
        expect(std::fabs(lane([](Vec v) { return rounded_code(v, Vec(-7.0f), Vec(7.0f)); }, x)) == 7, "codes are clamped");
    expect(lane([](Vec v) { return poison(v); }, 3e38f) == 0, "no poison in what is finite");
}

ProductScratch scratch(Arena& arena, size_t most) {
    ProductScratch z{};
    z.narrow = arena.take<int8_t>(most), z.wide = arena.take<int16_t>(most), z.sum = arena.take<int32_t>(most);
    for (float** rows : {&z.rows, &z.more, &z.decoded}) *rows = arena.take<float>(most);
    z.clipped = arena.take<uint64_t>(1), z.seen = arena.take<uint64_t>(1);
    return z;
}

// A linear map of odd shape with weights of so many bits (32: floats) and inputs of so many (0: floats), on some rows.
struct Product {
    Arena arena;
    const int bits, in, out, rows, I, O;
    const float high;  // code
    const std::string name;
    std::vector<float> weights;
    float *scale, *bias, *step, *x, *y, *dx;
    LinearMap map{};
    ProductScratch z;

    Product(int weight_bits, int input_bits, int inputs, int outputs, int count)
        : bits(input_bits), in(inputs), out(outputs), rows(count), I(padded(in)), O(padded(out)),
          high(bits ? float((1 << (bits - 1)) - 1) : 0.0f),
          name(std::to_string(weight_bits) + " x " + std::to_string(bits) + " bits, " + std::to_string(in) + " to " +
               std::to_string(out)),
          scale(arena.take<float>(O)), bias(arena.take<float>(O)), step(arena.take<float>(I)),
          x(arena.take<float>(size_t(rows) * I)), y(arena.take<float>(size_t(rows) * O)),
          dx(arena.take<float>(size_t(rows) * I)), z(scratch(arena, size_t(rows + 2) * size_t(I + O) * 33)) {
        draw_weights(weight_bits);
        float* inverse = arena.take<float>(I);
        for (int o = 0; o < O; ++o) scale[o] = float(draw(0.5, 2)), bias[o] = float(draw(-1, 1));
        for (int k = 0; k < I; ++k) step[k] = float(draw(0.5, 2)), inverse[k] = 1.0f / step[k];
        map.scale = scale, map.bias = bias, map.step = bits ? step : nullptr, map.inverse = inverse;
        map.bits = bits, map.qmax = high;
    }

    void draw_weights(int weight_bits) {
        const bool coded = weight_bits < 32;
        const int most = coded ? (1 << (weight_bits - 1)) - 1 : 1;
        const Places of_in = in_order(in), of_out = in_order(out);
        std::vector<int8_t> codes;
        for (int k = 0; k < in * out; ++k) {
            codes.push_back(int8_t(whole_number(-most, most)));
            weights.push_back(coded ? codes.back() : float(draw(-1, 1)));
        }
        map.forward = coded ? code_panel(arena, codes.data(), weight_bits, of_out, of_in, O, I)
                            : float_panel(arena, weights.data(), of_out, of_in, O, I, false);
        map.backward = coded ? transposed(map.forward) : float_panel(arena, weights.data(), of_out, of_in, O, I, true);
    }

    double weight(int o, int k) const { return weights[size_t(o) * in + k]; }
    bool beyond(int r, int k) const { return bits && std::fabs(x[r * I + k] / step[k]) > high + 0.5f; }
    void apply_map() { apply(map, x, I, Rows(y, O), rows, z); }

    void forward() {
        uint64_t clipped = 0;
        for (int r = 0; r < rows; ++r)
            for (int k = 0; k < in; ++k) {
                x[r * I + k] = float(bits ? 1.1 * draw(-high, high) * step[k] : draw(-1, 1));
                clipped += beyond(r, k);
            }
        apply_map();
        expect(*z.clipped == clipped && z.not_finite == 0, name + ": clipped values are counted");
        for (int r = 0; r < rows; ++r)
            for (int o = 0; o < out; ++o) {
                double total = 0, size = 0;
                for (int k = 0; k < in; ++k) {
                    const float code = std::min(std::max(std::nearbyintf(x[r * I + k] / step[k]), -high), high);
                    const double term = (bits ? code : x[r * I + k]) * weight(o, k);
                    total += term, size += std::fabs(term);
                }
                expect(close_to(y[r * O + o], total * scale[o] + bias[o], 1e-6 * (size * scale[o] + 1)),
                       name + ": product");
            }
    }

    void backward() {
        adjoint(map, x, I, ConstRows(y, O), dx, I, rows, true, z);
        for (int r = 0; r < rows; ++r)
            for (int k = 0; k < in; ++k) {
                double total = 0, size = 0;
                for (int o = 0; o < out; ++o) {
                    const double term = double(y[r * O + o]) * scale[o] * weight(o, k);
                    total += term, size += std::fabs(term);
                }
                expect(close_to(dx[r * I + k], beyond(r, k) ? 0 : total / (bits ? step[k] : 1), 3e-6 * (size + 1)),
                       name + ": adjoint");
            }
    }

    void not_finite(float bad) {
        x[size_t(rows - 1) * I + in - 1] = bad;
        z.not_finite = 0;
        apply_map();
        bool told = z.not_finite != 0;
        for (int o = 0; o < out; ++o) told |= !std::isfinite(y[size_t(rows - 1) * O + o]);
        expect(told, name + ": what is not finite is told");
    }
};

void product(int weight_bits, int bits, int in, int out, int rows) {
    Product map(weight_bits, bits, in, out, rows);
    map.forward();
    map.backward();
    for (const float bad : {NOT, INF, -INF}) map.not_finite(bad);
}

void products() {
    for (int weight_bits : {4, 8, 32})
        for (int bits : {0, 4, 8, 12, 16, 24})
            for (int in : {1, 7, 16, 40})
                for (int out : {3, 16, 33}) product(weight_bits, bits, in, out, whole_number(1, 31));
}

void geometry() {
    for (int n = 0; n < 200; ++n) {
        double x[2][3], Y[2][MAX_COMPONENTS];
        for (auto& v : x) {
            double size = 0;
            for (double& c : v) c = draw(-1, 1), size += c * c;
            for (double& c : v) c /= std::sqrt(size);
        }
        for (int k = 0; k < 2; ++k) harmonics(x[k][0], x[k][1], x[k][2], 4, Y[k]);
        const double c = x[0][0] * x[1][0] + x[0][1] * x[1][1] + x[0][2] * x[1][2];
        const double legendre[5] = {1, c, 0.5 * (3 * c * c - 1), 0.5 * (5 * c * c * c - 3 * c),
                                    0.125 * (35 * c * c * c * c - 30 * c * c + 3)};
        for (int l = 1; l <= 4; ++l) {
            double total = 0;
            for (int k = first_component(l); k < first_component(l + 1); ++k) total += Y[0][k] * Y[1][k];
            expect(close_to(total, legendre[l], 1e-12), "the addition theorem of harmonics");
        }
        float value[4], slope[4];
        const double t = draw(0, 1), spacing = 0.3;
        spline(t, spacing, value, slope);
        double sums[4] = {};
        for (int k = 0; k < 4; ++k)
            sums[0] += value[k], sums[1] += value[k] * (k - 1), sums[2] += slope[k], sums[3] += slope[k] * (k - 1);
        expect(close_to(sums[0], 1, 1e-6) && close_to(sums[1], t, 1e-6) && close_to(sums[2], 0, 1e-5) &&
                   close_to(sums[3], 1 / spacing, 1e-5),
               "a spline of a straight line");
    }
    Doubles A[3][3], V[3][3], before[3][3];
    for (int n = 0; n < 50; ++n) {
        for (int a = 0; a < 3; ++a)
            for (int b = 0; b <= a; ++b)
                for (int k = 0; k < 8; ++k)
                    A[a][b][k] = A[b][a][k] = n % 5 == 0 && a != b ? 0
                                              : n % 7 == 0 ? 1
                                                           : draw(-1, 1);  // also those that are diagonal, or degenerate
        std::memcpy(before, A, sizeof A);
        diagonalize(A, V);
        for (int k = 0; k < 8; ++k) {
            double R[3][3];
            frame_of(A, V, k, R);
            const double det = R[0][0] * (R[1][1] * R[2][2] - R[1][2] * R[2][1]) -
                               R[0][1] * (R[1][0] * R[2][2] - R[1][2] * R[2][0]) +
                               R[0][2] * (R[1][0] * R[2][1] - R[1][1] * R[2][0]);
            expect(close_to(det, 1, 1e-12), "a frame is a rotation");
            for (int a = 0; a < 3; ++a)
                for (int b = 0; b < 3; ++b) {
                    double again = 0;
                    for (int c = 0; c < 3; ++c) again += V[a][c][k] * A[c][c][k] * V[b][c][k];
                    expect(close_to(again, before[a][b][k], 1e-13), "a matrix is its eigenvalues and eigenvectors");
                }
        }
    }
}

// Filters of a few pairs at once have the bits of those of one alone.
void together() {
    Shape s{};
    s.H = 2, s.L = 2, s.Hp = 16, s.W = 96;
    std::vector<float> table(50 * 96), contract(4 * 96), records(128), codes(128), four(384), one(384);
    Layer y{};
    y.table = table.data(), y.contract = contract.data();
    for (int n = 0; n < 50; ++n) {
        for (auto* values : {&table, &contract, &records, &codes})
            for (float& x : *values) x = float(draw(-1, 1));
        const int32_t knot = n % 40;
        for (int p = 0; p < 4; ++p) std::memcpy(&records[size_t(32 * p + KNOT)], &knot, sizeof knot);
        filter_parts<4>(s, y, records.data(), 32, codes.data(), 0, 96, four.data());
        for (int p = 0; p < 4; ++p)
            filter_parts<1>(s, y, records.data() + 32 * p, 0, codes.data() + 32 * p, 0, 96, one.data() + 96 * p);
        expect(four == one, "pairs together are as pairs alone");
    }
}

void vectors() {
    alignas(64) float step[LANES], inverse[LANES], v[5 * LANES], out[5 * LANES], D[25] = {};
    const double angle = 0.7;
    for (int k = 0; k < 5; ++k) D[6 * k] = 1;
    D[0] = D[6] = float(std::cos(angle)), D[1] = float(-std::sin(angle)), D[5] = -D[1];
    for (int trial = 0; trial < 400; ++trial) {
        Rounding r{trial % 2 ? Format::mddq : Format::components, Gradient::geometric, true, step, inverse, 127, 127, 0};
        for (int c = 0; c < LANES; ++c) step[c] = float(draw(0.01, 0.1)), inverse[c] = 1.0f / step[c];
        for (float& x : v) x = float(draw(-6, 6) * (trial % 5 ? 1 : 1e-3));
        const float bad = trial % 3 ? 0 : trial % 2 ? NOT : INF;
        if (trial % 3 == 0) v[2 * LANES + 1] = bad;
        uint64_t counts[2] = {};
        Scratch z{};
        z.clipped = counts, z.seen = counts + 1;
        round_vectors(r, 2, D, 0, v, 0, out, 1, LANES, z);
        for (int c = 0; c < LANES; ++c) {
            double w[5], size = 0, length = 0, code[5];
            for (int a = 0; a < 5; ++a) {
                w[a] = 0;
                for (int b = 0; b < 5; ++b) w[a] += double(D[5 * b + a]) * v[b * LANES + c];
                size += w[a] * w[a];
            }
            bool tie = false, told = false;  // float noise may tip what lies on an edge
            const double whole = std::min(std::nearbyint(std::sqrt(size) / step[c]), 127.0);
            const auto edge = [&](double t) { tie |= std::fabs(std::fabs(t - std::floor(t)) - 0.5) < 1e-3; };
            edge(std::sqrt(size) / step[c]);
            for (int a = 0; a < 5; ++a) {
                const double t = r.format == Format::mddq ? 127 * w[a] / std::sqrt(size) : w[a] / step[c];
                code[a] = std::min(std::max(std::nearbyint(t), -127.0), 127.0);
                length += code[a] * code[a];
                if (r.format == Format::components || whole > 0) edge(t);
                told |= !std::isfinite(out[a * LANES + c]);
            }
            if (!std::isfinite(size)) expect(told, "what is not finite in a vector stays so");
            for (int a = 0; a < 5 && std::isfinite(size) && !tie; ++a) {
                const double expected = r.format == Format::components ? code[a] * step[c]
                                        : whole > 0                    ? whole * step[c] * code[a] / std::sqrt(length)
                                                                       : 0;
                expect(close_to(out[a * LANES + c], expected, 2e-6 * (1 + std::fabs(expected))),
                       r.format == Format::mddq ? "magnitude and direction" : "components");
            }
        }
    }
}

bool supported() {
#if defined(GAQ_AVX512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw");
#elif defined(GAQ_AVX2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return true;
#endif
}

}  // namespace

int main() {
    if (!supported()) return std::printf("skipped: this processor lacks the instructions\n"), 0;
    functions();
    products();
    geometry();
    together();
    vectors();
    std::printf(failures ? "%d failures\n" : "ok\n", failures);
    return failures != 0;
}
