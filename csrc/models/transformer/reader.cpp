#include "models/transformer/reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "models/transformer/heads.h"
#include "runtime/leaf_reader.h"

namespace gaq::transformer {
namespace {

constexpr double LARGEST_ENERGY = 1e30;  // eV; the sum over any number of atoms is finite
constexpr int MAX_HEADS = 64, MAX_LAYERS = 64;

class Reader : LeafReader {
public:
    using LeafReader::LeafReader;

    Parameters read();

private:
    void config();
    void constants();
    void places();
    void embedding();
    void rounding(Rounding* degrees, const std::string& name);
    Norm norm(const std::string& name);
    void contraction(Layer& layer, const std::string& name);
    Layer layer(int index);
    void extrapolation();
    void frames();

    Parameters p_{};
    Places scalar_, vector_, head_, gates_, value_, filter_, pair_;
};

void Reader::config() {
    const int32_t* c = integers("config", 13);
    const auto within = [&](int n, int low, int high, const char* name) {
        if (c[n] < low || c[n] > high) bad_blob(std::string("config: ") + name + " is " + std::to_string(c[n]));
        return int(c[n]);
    };
    Shape& s = p_.shape;
    s.F = within(0, 1, 4096, "scalars");
    s.C = within(1, 1, 4096, "vectors");
    s.L = within(2, 1, MAX_DEGREE, "max_degree");
    s.H = within(3, 1, std::min(s.F, MAX_HEADS), "heads");
    s.T = within(4, 1, MAX_LAYERS, "layers");
    p_.species = within(5, 1, 118, "species");
    s.robust = within(6, 0, 1, "attention") == 0;
    p_.cosine = within(7, 0, 1, "envelope") == 1;
    p_.power = within(8, 2, 64, "power");
    p_.knots = within(9, 2, 1 << 16, "knots");
    p_.frames = within(10, 0, 1, "frames") == 1;
    p_.spreading = within(11, 0, 64, "spreading");
    facts_.quantizers = within(12, 0, 1 << 16, "quantizers");
    if (s.F % s.H) bad_blob("config: heads do not divide scalars");
    s.M = (s.L + 1) * (s.L + 1) - 1;
    s.Fp = padded(s.F);
    s.Cp = padded(s.C);
    s.Hp = padded(s.H);
    s.G = s.L * s.Cp;
    s.A = s.robust ? s.Hp : s.Fp;
    s.W = s.Fp + 2 * s.G + s.A;
}

void Reader::constants() {
    const double* d = doubles("constants", 6);
    p_.cutoff = d[0];
    p_.start = d[1];
    p_.bend = d[2];
    p_.spacing = d[3];
    p_.energy_scale = d[4];
    p_.spread = d[5];
    if (!(p_.cutoff >= 1 && p_.cutoff <= 100)) bad_blob("constants: cutoff");
    if (!(p_.start >= 1e-6 && p_.start <= p_.cutoff / 2)) bad_blob("constants: start of the tables");
    if (!(p_.bend >= 1e-6 && p_.bend <= 100)) bad_blob("constants: bend of the tables");
    if (!(p_.spacing > 0)) bad_blob("constants: spacing of the tables");
    if (!(p_.energy_scale > 0 && p_.energy_scale <= LARGEST_ENERGY)) bad_blob("constants: energy scale");
    if (!(p_.spread >= 0 && p_.spread <= 1)) bad_blob("constants: spread of the frames");
    const double end = std::log(p_.start + p_.bend) + p_.spacing * (p_.knots - 1);
    if (!(std::fabs(std::exp(end) - p_.bend - p_.cutoff) < 1e-9 * p_.cutoff))
        bad_blob("constants: the table does not reach from its start to the cutoff");
}

void Reader::places() {
    const Shape& s = p_.shape;
    scalar_ = consecutive(s.F);
    vector_ = consecutive(s.C);
    head_ = consecutive(s.H);
    for (int l = 0; l < s.L; ++l)
        for (int c = 0; c < s.C; ++c) gates_.push_back(l * s.Cp + c);
    value_ = concatenated(scalar_, s.Fp, gates_);
    filter_ = concatenated(concatenated(value_, s.Fp + s.G, gates_), s.Fp + 2 * s.G, s.robust ? head_ : scalar_);
    pair_ = concatenated(vector_, s.Cp, vector_);
}

void Reader::rounding(Rounding* degrees, const std::string& name) {
    for (int l = 1; l <= p_.shape.L; ++l) {
        Rounding& r = degrees[l - 1];
        const std::string array = name + "." + std::to_string(l);
        const int32_t* given = integers(array + ".format", 6);
        if (given[0] < 0 || given[0] > 2 || given[1] < 0 || given[1] > 2 || given[2] < 0 || given[2] > 1)
            bad_blob(array + ".format is unknown");
        r.format = Format(given[0]);
        r.gradient = Gradient(given[1]);
        r.aligned = given[2] != 0;
        if (r.aligned && (r.format == Format::none || !p_.frames)) bad_blob(array + " has nothing to align");
        if (r.format == Format::none) continue;
        if (given[4] < 2 || given[4] > 16 || (r.format == Format::mddq && (given[3] < 2 || given[3] > 16)))
            bad_blob(array + ".format: bits out of range");
        r.magnitude_qmax = r.format == Format::mddq ? float((1u << given[3]) - 1) : 0.0f;
        r.component_qmax = float((1 << (given[4] - 1)) - 1);
        r.step = row(steps(array + ".step", vector_.size()), vector_, p_.shape.Cp, 1.0f);
        r.inverse = inverse(r.step, p_.shape.Cp);
        r.quantizer = quantizer(array, given[5]);
    }
}

void Reader::contraction(Layer& layer, const std::string& name) {
    const Shape& s = p_.shape;
    const int32_t* bits = integers(name + ".bits", 3);
    Places in;
    for (int l = 0; l < s.L; ++l)
        for (int h = 0; h < s.H; ++h) in.push_back(l * s.Hp + h);
    input(layer.contraction, name, bits, in, s.L * s.Hp);
    const size_t out = filter_.size(), inputs = in.size();
    const float* scale = bits[0] ? steps(name + ".scale", out) : nullptr;
    const int8_t* whole = bits[0] ? codes(name + ".codes", bits[0], out * inputs) : nullptr;
    const float* values = bits[0] ? nullptr : floats(name + ".weight", out * inputs);
    float* weights = arena_.take<float>(inputs * s.W);
    for (size_t o = 0; o < out; ++o)
        for (size_t i = 0; i < inputs; ++i)
            weights[i * s.W + filter_[o]] = whole ? whole[o * inputs + i] * scale[o] : values[o * inputs + i];
    layer.contract = weights;
    facts_.weight_bytes += 4 * inputs * s.W;
}

Norm Reader::norm(const std::string& name) {
    const float *weight = floats(name + ".weight", scalar_.size()), *bias = floats(name + ".bias", scalar_.size());
    return {row(weight, scalar_, p_.shape.Fp, 0.0f), row(bias, scalar_, p_.shape.Fp, 0.0f)};
}

Layer Reader::layer(int index) {
    const Shape& s = p_.shape;
    const std::string a = "attention." + std::to_string(index) + ".", u = "interaction." + std::to_string(index) + ".";
    Layer y{};
    y.first = norm(a + "norm");
    y.second = norm(u + "norm");
    y.query = linear(a + "query", scalar_, s.Fp, scalar_, s.Fp);
    y.key = linear(a + "key", scalar_, s.Fp, scalar_, s.Fp);
    y.value = linear(a + "value", value_, s.Fp + s.G, scalar_, s.Fp);
    y.output = linear(a + "output", scalar_, s.Fp, scalar_, s.Fp);
    y.update_first = linear(u + "update.first", scalar_, s.Fp, value_, s.Fp + s.G);
    y.update_second = linear(u + "update.second", value_, s.Fp + s.G, scalar_, s.Fp);
    rounding(y.feature, a + "feature");
    rounding(y.update, u + "feature");
    for (int l = 0; l < s.L; ++l) {
        const std::string slice = "." + std::to_string(l + 1);
        y.mix[l] = linear(a + "mix", vector_, s.Cp, vector_, s.Cp, slice);
        y.project[l] = linear(a + "filters.project", head_, s.Hp, vector_, s.Cp, slice);
        y.pair[l] = linear(u + "mix", pair_, 2 * s.Cp, vector_, s.Cp, slice);
    }
    contraction(y, a + "filters.contraction");
    const float* temperature = floats(a + "temperature", head_.size());
    require_within(a + "temperature", temperature, head_.size(), 1e-15, 1e3);
    y.temperature = row(temperature, head_, s.Hp, 1.0f);
    y.table = rows(a + "table", size_t(p_.knots) + 2, filter_, s.W);
    facts_.table_bytes += 4 * (size_t(p_.knots) + 2) * s.W;
    return y;
}

void Reader::extrapolation() {
    const size_t S = size_t(p_.species);
    const double *given = doubles("repulsion", 4 * S * S), *limits = doubles("bounds", 4 * S);
    Repulsion* repulsion = arena_.take<Repulsion>(S * S);
    for (size_t n = 0; n < S * S; ++n) {
        repulsion[n] = {given[n], given[S * S + n], given[2 * S * S + n], given[3 * S * S + n]};
        const Repulsion& w = repulsion[n];
        if (!(w.inner > 0 && w.inner < w.onset && w.onset <= p_.cutoff && w.strength > 0 && w.rate > 0))
            bad_blob("repulsion");
        for (size_t k = 0; k < 4 * S * S; k += S * S)
            if (given[k + n] != given[k + n % S * S + n / S]) bad_blob("repulsion is not symmetric");
    }
    OutputBounds* bounds = arena_.take<OutputBounds>(S);
    for (size_t n = 0; n < S; ++n) {
        bounds[n] = {limits[n], limits[S + n], limits[2 * S + n], limits[3 * S + n]};
        if (!(bounds[n].low < bounds[n].high && bounds[n].below > 0 && bounds[n].above > 0)) bad_blob("bounds");
    }
    p_.repulsion = repulsion;
    p_.bounds = bounds;
}

void Reader::frames() {
    if (!p_.frames) return;
    for (int l = 2; l <= p_.shape.L; ++l) {
        const std::string name = "wigner." + std::to_string(l);
        const uint64_t count = blob_.length(name + ".directions") / 3;
        if (count < 1 || count > 64) bad_blob(name + " has an unlikely number of directions");
        const double* directions = doubles_within(name + ".directions", 3 * count, 1.0);
        const double* inverse = doubles_within(name + ".inverse", (2 * l + 1) * count, 1e6);
        double* kept = arena_.take<double>(3 * count);
        double* solving = arena_.take<double>((2 * l + 1) * count);
        std::memcpy(kept, directions, 3 * count * sizeof(double));
        std::memcpy(solving, inverse, (2 * l + 1) * count * sizeof(double));
        p_.samples[l - 1] = int(count);
        p_.directions[l - 1] = kept;
        p_.inverse[l - 1] = solving;
    }
}

void Reader::embedding() {
    const Shape& s = p_.shape;
    const size_t species = size_t(p_.species), rows_of_table = size_t(p_.knots) + 2;
    double* offsets = arena_.take<double>(species);
    std::memcpy(offsets, doubles_within("energy_offsets", species, LARGEST_ENERGY), species * sizeof(double));
    p_.energy_offsets = offsets;
    p_.own = rows("embedding.own", species, scalar_, s.Fp);
    p_.other = rows("embedding.other", species, value_, s.Fp + s.G);
    p_.embedding = rows("embedding.table", rows_of_table, value_, s.Fp + s.G);
    facts_.table_bytes += 4 * rows_of_table * (s.Fp + s.G);
    facts_.weight_bytes += 4 * species * (2 * s.Fp + s.G);
}

Parameters Reader::read() {
    config();
    constants();
    places();
    const Shape& s = p_.shape;
    species(p_.species);
    facts_.cutoff = p_.cutoff;
    facts_.hops = s.T + 1;  // the first features are sums over neighbours too
    facts_.rounding_hops = facts_.hops + (p_.frames ? p_.spreading : 0);
    embedding();
    Layer* layers = arena_.take<Layer>(s.T);
    for (int t = 0; t < s.T; ++t) layers[t] = layer(t);
    p_.layers = layers;
    const int hidden = s.F / 2 > 0 ? s.F / 2 : 1;
    p_.hidden = linear("head.first", consecutive(hidden), padded(hidden), scalar_, s.Fp);
    p_.last = linear("head.second", consecutive(1), LANES, consecutive(hidden), padded(hidden));
    p_.scalar_heads = head_map(arena_, scalar_, s.Fp, s.H);
    p_.vector_heads = head_map(arena_, vector_, s.Cp, s.H);
    extrapolation();
    frames();
    return p_;
}

}  // namespace

Parameters read_parameters(const Blob& blob, Arena& arena, ModelFacts& facts) { return Reader(blob, arena, facts).read(); }

}  // namespace gaq::transformer
