// Reading the leaves of a model from a blob: arrays whose numbers are checked, rows at their padded places, linear maps.
#pragma once

#include <limits>
#include <string>

#include "gemm/packing.h"
#include "runtime/blob.h"
#include "runtime/model.h"
#include "simd/arena.h"

namespace gaq {

constexpr double LARGEST_STEP = 1e30;  // of codes; the smallest is its inverse

[[noreturn]] void bad_blob(const std::string& what);  // throws Failure(GAQ_BAD_BLOB)

// NaN is within no bounds.
template <class T>
void require_within(const std::string& name, const T* values, size_t count, double low, double high) {
    const T least = T(low), most = T(high);
    for (size_t n = 0; n < count; ++n)
        if (!(values[n] >= least && values[n] <= most)) bad_blob(name + " holds a value out of range");
}

template <class T>
void require_finite(const std::string& name, const T* values, size_t count) {
    require_within(name, values, count, -double(std::numeric_limits<T>::max()), double(std::numeric_limits<T>::max()));
}

// Places 0 to count - 1, and those of a row after which another begins at `width`.
Places consecutive(int count);
Places concatenated(const Places& first, int width, const Places& second);

// Whatever a method does not find as it should be throws Failure(GAQ_BAD_BLOB). Bytes are counted in the facts.
class LeafReader {
public:
    LeafReader(const Blob& blob, Arena& arena, ModelFacts& facts) : blob_(blob), arena_(arena), facts_(facts) {}

    const int32_t* integers(const std::string& name, size_t count) { return blob_.array<int32_t>(name, count); }
    const double* doubles(const std::string& name, size_t count);
    const double* doubles_within(const std::string& name, size_t count, double largest);
    const float* floats(const std::string& name, size_t count);
    const float* steps(const std::string& name, size_t count);
    const int8_t* codes(const std::string& name, int32_t bits, size_t count);

    // The values at their places in a row of `width`, `filling` elsewhere.
    const float* row(const float* given, const Places& places, int width, float filling);
    const float* inverse(const float* values, int width);
    const float* rows(const std::string& name, size_t count, const Places& places, int width);

    // The atomic numbers, ascending.
    void species(int count);
    int quantizer(const std::string& name, int32_t index);
    void input(LinearMap& linear, const std::string& name, const int32_t* bits, const Places& in, int width);

    // `slice` names one degree of a channel mixing, whose weights are stacked.
    LinearMap linear(const std::string& name, const Places& out, int out_width, const Places& in, int in_width,
                     const std::string& slice = "");

protected:
    const Blob& blob_;
    Arena& arena_;
    ModelFacts& facts_;
};

}  // namespace gaq
