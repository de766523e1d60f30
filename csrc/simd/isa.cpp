#include "simd/isa.h"

namespace gaq {

const char* name_of(Isa isa) { return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "scalar"; }

bool available(Isa isa) {
    if (isa == Isa::scalar) return true;
#if defined(GAQ_HAS_X86)
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return false;
    return isa == Isa::avx2 ||
           (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni"));
#else
    return false;
#endif
}

}  // namespace gaq
