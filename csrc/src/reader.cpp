#include "reader.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>

#include "failure.h"
#include "panels.h"

namespace gaq {
namespace {

[[noreturn]] void wrong(const std::string& what) { throw Failure(GAQ_BAD_BLOB, "blob: " + what); }

constexpr double LARGEST_STEP = 1e30;    // of codes; the smallest is its inverse
constexpr double LARGEST_ENERGY = 1e30;  // eV; the sum over any number of atoms is finite
constexpr int MOST_HEADS = 64, MOST_LAYERS = 64;

// NaN is within no bounds.
template <class T>
void require_within(const std::string& name, const T* values, size_t count, double low, double high) {
    const T least = T(low), most = T(high);
    for (size_t n = 0; n < count; ++n)
        if (!(values[n] >= least && values[n] <= most)) wrong(name + " holds a value out of range");
}

template <class T>
void require_finite(const std::string& name, const T* values, size_t count) {
    require_within(name, values, count, -double(std::numeric_limits<T>::max()), double(std::numeric_limits<T>::max()));
}

Places straight(int count) {
    Places places(count);
    for (int n = 0; n < count; ++n) places[n] = n;
    return places;
}

Places joined(const Places& first, int width, const Places& second) {
    Places places = first;
    for (int place : second) places.push_back(width + place);
    return places;
}

class Reader {
public:
    Reader(const Blob& blob, Arena& arena, Sizes& sizes) : blob_(blob), arena_(arena), sizes_(sizes) {}

    Model read();

private:
    const int32_t* integers(const std::string& name, size_t count) { return blob_.array<int32_t>(name, count); }
    const double* doubles(const std::string& name, size_t count) {
        const double* values = blob_.array<double>(name, count);
        require_finite(name, values, count);
        return values;
    }
    const double* doubles_within(const std::string& name, size_t count, double largest) {
        const double* values = blob_.array<double>(name, count);
        require_within(name, values, count, -largest, largest);
        return values;
    }
    const float* floats(const std::string& name, size_t count) {
        const float* values = blob_.array<float>(name, count);
        require_finite(name, values, count);
        return values;
    }
    const float* steps(const std::string& name, size_t count) {
        const float* values = blob_.array<float>(name, count);
        require_within(name, values, count, 1 / LARGEST_STEP, LARGEST_STEP);
        return values;
    }
    const int8_t* codes(const std::string& name, int32_t bits, size_t count);
    // The values at their places in a row of `width`, `filling` elsewhere.
    const float* row(const float* given, const Places& places, int width, float filling);
    const float* inverse(const float* values, int width);
    const float* rows(const std::string& name, size_t count, const Places& places, int width);
    void shape();
    void places();
    void input(Linear& linear, const std::string& name, const int32_t* bits, const Places& in, int width);
    Linear linear(const std::string& name, const Places& out, int out_width, const Places& in, int in_width,
                  const std::string& slice = "");
    void prove(const std::string& name, const int8_t* codes, size_t out, size_t in, float qmax);
    void rounding(Rounding* degrees, const std::string& name);
    int quantizer(const std::string& name, int32_t index);
    Norm norm(const std::string& name);
    void contraction(Layer& layer, const std::string& name);
    Layer layer(int index);
    void extrapolation();
    void frames();

    const Blob& blob_;
    Arena& arena_;
    Sizes& sizes_;
    Model model_{};
    Places scalar_, vector_, head_, gates_, value_, filter_, pair_;
};

const int8_t* Reader::codes(const std::string& name, int32_t bits, size_t count) {
    if (bits < 2 || bits > 8) wrong(name + ": weight bits out of range");
    const int8_t* values = blob_.array<int8_t>(name, count);
    const int largest = (1 << (bits - 1)) - 1;
    for (size_t n = 0; n < count; ++n)
        if (std::abs(int(values[n])) > largest) wrong(name + " are beyond their bits");
    return values;
}

const float* Reader::row(const float* given, const Places& places, int width, float filling) {
    float* values = arena_.take<float>(width);
    for (int n = 0; n < width; ++n) values[n] = filling;
    for (size_t n = 0; n < places.size(); ++n) values[places[n]] = given[n];
    sizes_.weights += 4 * size_t(width);
    return values;
}

const float* Reader::inverse(const float* values, int width) {
    float* found = arena_.take<float>(width);
    for (int n = 0; n < width; ++n) found[n] = 1.0f / values[n];
    sizes_.weights += 4 * size_t(width);
    return found;
}

const float* Reader::rows(const std::string& name, size_t count, const Places& places, int width) {
    const float* given = floats(name, count * places.size());
    float* values = arena_.take<float>(count * width);
    for (size_t r = 0; r < count; ++r)
        for (size_t n = 0; n < places.size(); ++n) values[r * width + places[n]] = given[r * places.size() + n];
    return values;
}

void Reader::shape() {
    const int32_t* c = integers("config", 13);
    const auto within = [&](int n, int low, int high, const char* name) {
        if (c[n] < low || c[n] > high) wrong(std::string("config: ") + name + " is " + std::to_string(c[n]));
        return int(c[n]);
    };
    Shape& s = model_.shape;
    s.F = within(0, 1, 4096, "scalars");
    s.C = within(1, 1, 4096, "vectors");
    s.L = within(2, 1, MAX_DEGREE, "max_degree");
    s.H = within(3, 1, std::min(s.F, MOST_HEADS), "heads");
    s.T = within(4, 1, MOST_LAYERS, "layers");
    model_.species = within(5, 1, 118, "species");
    s.robust = within(6, 0, 1, "attention") == 0;
    model_.cosine = within(7, 0, 1, "envelope") == 1;
    model_.power = within(8, 2, 64, "power");
    model_.knots = within(9, 2, 1 << 16, "knots");
    model_.frames = within(10, 0, 1, "frames") == 1;
    model_.spreading = within(11, 0, 64, "spreading");
    model_.quantizers = within(12, 0, 1 << 16, "quantizers");
    if (s.F % s.H) wrong("config: heads do not divide scalars");
    s.M = (s.L + 1) * (s.L + 1) - 1;
    s.Fp = padded(s.F);
    s.Cp = padded(s.C);
    s.Hp = padded(s.H);
    s.G = s.L * s.Cp;
    s.A = s.robust ? s.Hp : s.Fp;
    s.W = s.Fp + 2 * s.G + s.A;
    const double* d = doubles("constants", 6);
    model_.cutoff = d[0];
    model_.start = d[1];
    model_.bend = d[2];
    model_.spacing = d[3];
    model_.energy_scale = d[4];
    model_.spread = d[5];
    if (!(model_.cutoff >= 1 && model_.cutoff <= 100)) wrong("constants: cutoff");
    if (!(model_.start >= 1e-6 && model_.start <= model_.cutoff / 2)) wrong("constants: start of the tables");
    if (!(model_.bend >= 1e-6 && model_.bend <= 100)) wrong("constants: bend of the tables");
    if (!(model_.spacing > 0)) wrong("constants: spacing of the tables");
    if (!(model_.energy_scale > 0 && model_.energy_scale <= LARGEST_ENERGY)) wrong("constants: energy scale");
    if (!(model_.spread >= 0 && model_.spread <= 1)) wrong("constants: spread of the frames");
    const double end = std::log(model_.start + model_.bend) + model_.spacing * (model_.knots - 1);
    if (!(std::fabs(std::exp(end) - model_.bend - model_.cutoff) < 1e-9 * model_.cutoff))
        wrong("constants: the table does not reach from its start to the cutoff");
}

void Reader::places() {
    const Shape& s = model_.shape;
    scalar_ = straight(s.F);
    vector_ = straight(s.C);
    head_ = straight(s.H);
    for (int l = 0; l < s.L; ++l)
        for (int c = 0; c < s.C; ++c) gates_.push_back(l * s.Cp + c);
    value_ = joined(scalar_, s.Fp, gates_);
    filter_ = joined(joined(value_, s.Fp + s.G, gates_), s.Fp + 2 * s.G, s.robust ? head_ : scalar_);
    pair_ = joined(vector_, s.Cp, vector_);
}

int Reader::quantizer(const std::string& name, int32_t index) {
    if (index < 0 || index >= model_.quantizers) wrong(name + ": its quantizer has no counter");
    return index;
}

void Reader::input(Linear& linear, const std::string& name, const int32_t* bits, const Places& in, int width) {
    linear.bits = bits[1];
    if (!linear.bits) return;
    if (linear.bits < 2 || (linear.bits > MOST_WHOLE_BITS && linear.bits != 24)) wrong(name + ": input bits out of range");
    linear.qmax = float((1 << (linear.bits - 1)) - 1);
    linear.step = row(steps(name + ".step", in.size()), in, width, 1.0f);
    linear.inverse = inverse(linear.step, width);
    linear.quantizer = quantizer(name, bits[2]);
}

void Reader::prove(const std::string& name, const int8_t* codes, size_t out, size_t in, float qmax) {
    for (size_t o = 0; o < out; ++o) {
        int64_t total = 0;
        for (size_t i = 0; i < in; ++i) total += std::abs(int(codes[o * in + i]));
        if (double(total) * qmax > 2147483647.0) wrong(name + ": the sum of products of output " + std::to_string(o) +
                                                       " may leave 32 bits");
    }
}

// `slice` names one degree of a channel mixing, whose weights are stacked.
Linear Reader::linear(const std::string& name, const Places& out, int out_width, const Places& in, int in_width,
                      const std::string& slice) {
    Linear made{};
    const int32_t* bits = integers(name + ".bits", 3);
    const std::string array = name + slice;
    input(made, name, bits, in, in_width);
    if (made.bits && !slice.empty()) wrong(name + ": vector features come rounded, and have no input bits");
    if (bits[0]) {
        const int8_t* given = codes(array + ".codes", bits[0], out.size() * in.size());
        if (made.bits && made.bits <= MOST_WHOLE_BITS) prove(array, given, out.size(), in.size(), made.qmax);
        made.forward = code_panel(arena_, given, bits[0], out, in, out_width, in_width);
        made.backward = transposed(made.forward);
        made.scale = row(steps(array + ".scale", out.size()), out, out_width, 0.0f);
    } else {
        const float* weight = floats(array + ".weight", out.size() * in.size());
        made.forward = float_panel(arena_, weight, out, in, out_width, in_width, false);
        made.backward = float_panel(arena_, weight, out, in, out_width, in_width, true);
    }
    if (blob_.has(array + ".bias")) made.bias = row(floats(array + ".bias", out.size()), out, out_width, 0.0f);
    sizes_.weights += panel_bytes(made.forward) + panel_bytes(made.backward);
    return made;
}

void Reader::rounding(Rounding* degrees, const std::string& name) {
    for (int l = 1; l <= model_.shape.L; ++l) {
        Rounding& r = degrees[l - 1];
        const std::string array = name + "." + std::to_string(l);
        const int32_t* given = integers(array + ".format", 6);
        if (given[0] < 0 || given[0] > 2 || given[1] < 0 || given[1] > 2 || given[2] < 0 || given[2] > 1)
            wrong(array + ".format is unknown");
        r.format = Format(given[0]);
        r.gradient = Gradient(given[1]);
        r.aligned = given[2] != 0;
        if (r.aligned && (r.format == Format::none || !model_.frames)) wrong(array + " has nothing to align");
        if (r.format == Format::none) continue;
        if (given[4] < 2 || given[4] > 16 || (r.format == Format::mddq && (given[3] < 2 || given[3] > 16)))
            wrong(array + ".format: bits out of range");
        r.magnitude_qmax = r.format == Format::mddq ? float((1u << given[3]) - 1) : 0.0f;
        r.component_qmax = float((1 << (given[4] - 1)) - 1);
        r.step = row(steps(array + ".step", vector_.size()), vector_, model_.shape.Cp, 1.0f);
        r.inverse = inverse(r.step, model_.shape.Cp);
        r.quantizer = quantizer(array, given[5]);
    }
}

void Reader::contraction(Layer& layer, const std::string& name) {
    const Shape& s = model_.shape;
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
    sizes_.weights += 4 * inputs * s.W;
}

Norm Reader::norm(const std::string& name) {
    const float *weight = floats(name + ".weight", scalar_.size()), *bias = floats(name + ".bias", scalar_.size());
    return {row(weight, scalar_, model_.shape.Fp, 0.0f), row(bias, scalar_, model_.shape.Fp, 0.0f)};
}

Layer Reader::layer(int index) {
    const Shape& s = model_.shape;
    const std::string a = "attention." + std::to_string(index) + ".", u = "interaction." + std::to_string(index) + ".";
    Layer y{};
    y.first = norm(a + "norm");
    y.second = norm(u + "norm");
    y.query = linear(a + "query", scalar_, s.Fp, scalar_, s.Fp);
    y.key = linear(a + "key", scalar_, s.Fp, scalar_, s.Fp);
    y.value = linear(a + "value", value_, s.Fp + s.G, scalar_, s.Fp);
    y.output = linear(a + "output", scalar_, s.Fp, scalar_, s.Fp);
    y.expand = linear(u + "update.first", scalar_, s.Fp, value_, s.Fp + s.G);
    y.shrink = linear(u + "update.second", value_, s.Fp + s.G, scalar_, s.Fp);
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
    y.table = rows(a + "table", size_t(model_.knots) + 2, filter_, s.W);
    sizes_.tables += 4 * (size_t(model_.knots) + 2) * s.W;
    return y;
}

void Reader::extrapolation() {
    const size_t S = size_t(model_.species);
    const double *given = doubles("repulsion", 4 * S * S), *limits = doubles("bounds", 4 * S);
    Wall* walls = arena_.take<Wall>(S * S);
    for (size_t n = 0; n < S * S; ++n) {
        walls[n] = {given[n], given[S * S + n], given[2 * S * S + n], given[3 * S * S + n]};
        const Wall &w = walls[n], &other = walls[n % S * S + n / S];  // filled already where n is below the diagonal
        if (!(w.inner > 0 && w.inner < w.on && w.on <= model_.cutoff && w.strength > 0 && w.rate > 0)) wrong("repulsion");
        if (n / S > n % S && std::memcmp(&w, &other, sizeof w)) wrong("repulsion is not symmetric");
    }
    Bounds* bounds = arena_.take<Bounds>(S);
    for (size_t n = 0; n < S; ++n) {
        bounds[n] = {limits[n], limits[S + n], limits[2 * S + n], limits[3 * S + n]};
        if (!(bounds[n].low < bounds[n].high && bounds[n].below > 0 && bounds[n].above > 0)) wrong("bounds");
    }
    model_.walls = walls;
    model_.bounds = bounds;
}

void Reader::frames() {
    if (!model_.frames) return;
    for (int l = 2; l <= model_.shape.L; ++l) {
        const std::string name = "wigner." + std::to_string(l);
        const uint64_t count = blob_.length(name + ".directions") / 3;
        if (count < 1 || count > 64) wrong(name + " has an unlikely number of directions");
        const double* directions = doubles_within(name + ".directions", 3 * count, 1.0);
        const double* inverse = doubles_within(name + ".inverse", (2 * l + 1) * count, 1e6);
        double* kept = arena_.take<double>(3 * count);
        double* solving = arena_.take<double>((2 * l + 1) * count);
        std::memcpy(kept, directions, 3 * count * sizeof(double));
        std::memcpy(solving, inverse, (2 * l + 1) * count * sizeof(double));
        model_.samples[l - 1] = int(count);
        model_.directions[l - 1] = kept;
        model_.inverse[l - 1] = solving;
    }
}

Model Reader::read() {
    shape();
    places();
    const Shape& s = model_.shape;
    int32_t* index_of = arena_.take<int32_t>(119);
    for (int z = 0; z < 119; ++z) index_of[z] = -1;
    const int32_t* species = integers("species", model_.species);
    for (int n = 0; n < model_.species; ++n) {
        if (species[n] < 1 || species[n] > 118 || index_of[species[n]] >= 0) wrong("species are out of range");
        index_of[species[n]] = n;
    }
    model_.index_of = index_of;
    double* offsets = arena_.take<double>(model_.species);
    std::memcpy(offsets, doubles_within("energy_offsets", model_.species, LARGEST_ENERGY), model_.species * sizeof(double));
    model_.energy_offsets = offsets;
    model_.own = rows("embedding.own", model_.species, scalar_, s.Fp);
    model_.other = rows("embedding.other", model_.species, value_, s.Fp + s.G);
    model_.embedding = rows("embedding.table", size_t(model_.knots) + 2, value_, s.Fp + s.G);
    sizes_.tables += 4 * (size_t(model_.knots) + 2) * (s.Fp + s.G);
    sizes_.weights += 4 * size_t(model_.species) * (2 * s.Fp + s.G);
    Layer* layers = arena_.take<Layer>(s.T);
    for (int t = 0; t < s.T; ++t) layers[t] = layer(t);
    model_.layers = layers;
    const int hidden = s.F / 2 > 0 ? s.F / 2 : 1;
    model_.hidden = linear("head.first", straight(hidden), padded(hidden), scalar_, s.Fp);
    model_.last = linear("head.second", straight(1), LANES, straight(hidden), padded(hidden));
    model_.scalar_heads = head_map(arena_, scalar_, s.Fp, s.H);
    model_.vector_heads = head_map(arena_, vector_, s.Cp, s.H);
    extrapolation();
    frames();
    return model_;
}

}  // namespace

Model read_model(const Blob& blob, Arena& arena, Sizes& sizes) { return Reader(blob, arena, sizes).read(); }

}  // namespace gaq
