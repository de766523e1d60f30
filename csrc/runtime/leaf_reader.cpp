#include "runtime/leaf_reader.h"

#include <cstdlib>

#include "runtime/failure.h"

namespace gaq {
namespace {

void require_sums_fit(const std::string& name, const int8_t* codes, size_t out, size_t in, float qmax) {
    for (size_t o = 0; o < out; ++o) {
        int64_t total = 0;
        for (size_t i = 0; i < in; ++i) total += std::abs(int(codes[o * in + i]));
        if (double(total) * qmax > 2147483647.0)
            bad_blob(name + ": the sum of products of output " + std::to_string(o) + " may leave 32 bits");
    }
}

}  // namespace

void bad_blob(const std::string& what) { throw Failure(GAQ_BAD_BLOB, "blob: " + what); }

Places consecutive(int count) {
    Places places(count);
    for (int n = 0; n < count; ++n) places[n] = n;
    return places;
}

Places concatenated(const Places& first, int width, const Places& second) {
    Places places = first;
    for (int place : second) places.push_back(width + place);
    return places;
}

const double* LeafReader::doubles(const std::string& name, size_t count) {
    const double* values = blob_.array<double>(name, count);
    require_finite(name, values, count);
    return values;
}

const double* LeafReader::doubles_within(const std::string& name, size_t count, double largest) {
    const double* values = blob_.array<double>(name, count);
    require_within(name, values, count, -largest, largest);
    return values;
}

const float* LeafReader::floats(const std::string& name, size_t count) {
    const float* values = blob_.array<float>(name, count);
    require_finite(name, values, count);
    return values;
}

const float* LeafReader::steps(const std::string& name, size_t count) {
    const float* values = blob_.array<float>(name, count);
    require_within(name, values, count, 1 / LARGEST_STEP, LARGEST_STEP);
    return values;
}

const int8_t* LeafReader::codes(const std::string& name, int32_t bits, size_t count) {
    if (bits < 2 || bits > 8) bad_blob(name + ": weight bits out of range");
    const int8_t* values = blob_.array<int8_t>(name, count);
    const int largest = (1 << (bits - 1)) - 1;
    for (size_t n = 0; n < count; ++n)
        if (std::abs(int(values[n])) > largest) bad_blob(name + " are beyond their bits");
    return values;
}

const float* LeafReader::row(const float* given, const Places& places, int width, float filling) {
    float* values = arena_.take<float>(width);
    for (int n = 0; n < width; ++n) values[n] = filling;
    for (size_t n = 0; n < places.size(); ++n) values[places[n]] = given[n];
    facts_.weight_bytes += 4 * size_t(width);
    return values;
}

const float* LeafReader::inverse(const float* values, int width) {
    float* found = arena_.take<float>(width);
    for (int n = 0; n < width; ++n) found[n] = 1.0f / values[n];
    facts_.weight_bytes += 4 * size_t(width);
    return found;
}

const float* LeafReader::rows(const std::string& name, size_t count, const Places& places, int width) {
    const float* given = floats(name, count * places.size());
    float* values = arena_.take<float>(count * width);
    for (size_t r = 0; r < count; ++r)
        for (size_t n = 0; n < places.size(); ++n) values[r * width + places[n]] = given[r * places.size() + n];
    return values;
}

int LeafReader::quantizer(const std::string& name, int32_t index) {
    if (index < 0 || index >= facts_.quantizers) bad_blob(name + ": its quantizer has no counter");
    return index;
}

void LeafReader::input(LinearMap& linear, const std::string& name, const int32_t* bits, const Places& in, int width) {
    linear.bits = bits[1];
    if (!linear.bits) return;
    if (linear.bits < 2 || (linear.bits > MAX_INTEGER_BITS && linear.bits != 24))
        bad_blob(name + ": input bits out of range");
    linear.qmax = float((1 << (linear.bits - 1)) - 1);
    linear.step = row(steps(name + ".step", in.size()), in, width, 1.0f);
    linear.inverse = inverse(linear.step, width);
    linear.quantizer = quantizer(name, bits[2]);
}

LinearMap LeafReader::linear(const std::string& name, const Places& out, int out_width, const Places& in, int in_width,
                             const std::string& slice) {
    LinearMap made{};
    const int32_t* bits = integers(name + ".bits", 3);
    const std::string array = name + slice;
    input(made, name, bits, in, in_width);
    if (made.bits && !slice.empty()) bad_blob(name + ": vector features come rounded, and have no input bits");
    if (bits[0]) {
        const int8_t* given = codes(array + ".codes", bits[0], out.size() * in.size());
        if (made.bits && made.bits <= MAX_INTEGER_BITS) require_sums_fit(array, given, out.size(), in.size(), made.qmax);
        made.forward = code_panel(arena_, given, bits[0], out, in, out_width, in_width);
        made.backward = transposed(made.forward);
        made.scale = row(steps(array + ".scale", out.size()), out, out_width, 0.0f);
    } else {
        const float* weight = floats(array + ".weight", out.size() * in.size());
        made.forward = float_panel(arena_, weight, out, in, out_width, in_width, false);
        made.backward = float_panel(arena_, weight, out, in, out_width, in_width, true);
    }
    if (blob_.has(array + ".bias")) made.bias = row(floats(array + ".bias", out.size()), out, out_width, 0.0f);
    facts_.weight_bytes += panel_bytes(made.forward) + panel_bytes(made.backward);
    return made;
}

void LeafReader::species(int count) {
    const int32_t* numbers = integers("species", size_t(count));
    for (int n = 0; n < count; ++n)
        if (numbers[n] < (n ? numbers[n - 1] + 1 : 1) || numbers[n] > 118) bad_blob("species are out of range or order");
    facts_.species.assign(numbers, numbers + count);
}

}  // namespace gaq
