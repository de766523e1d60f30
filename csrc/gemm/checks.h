// A few products against plain arithmetic at start-up, and loops that do nothing but what a ceiling counts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd/isa.h"

namespace gaq {

enum class Ceiling { float32, int16, int8, bandwidth };

struct Checks {
    // Whether whole-number products of this processor are right: one well-known library returns wrong ones on some.
    bool (*self_test)();
    // Do as many products, or read as much memory, as possible; returns operations or bytes.
    double (*throughput)(Ceiling kind, int64_t repeats, const float* memory, size_t count);
};

extern const Checks scalar_checks, avx2_checks, avx512_checks;

inline const Checks& checks_of(Isa isa) {
    static constexpr PerIsa<Checks> checks = GAQ_PER_ISA(checks);
    return checks[isa];
}

}  // namespace gaq
