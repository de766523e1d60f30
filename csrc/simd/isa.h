// Instruction sets: which ones this build and this processor have, and the name of the one that a file is compiled for.
#pragma once

#if defined(GAQ_AVX512)
#define GAQ_ISA avx512
#elif defined(GAQ_AVX2)
#define GAQ_ISA avx2
#else
#define GAQ_ISA scalar
#endif

#define GAQ_INLINE inline __attribute__((always_inline))

// GAQ_OF_ISA(things) is the name of this file's, such as avx2_things; GAQ_PER_ISA(things) the addresses of those of this
// build.
#define GAQ_JOINED(a, b) a##_##b
#define GAQ_JOIN(a, b) GAQ_JOINED(a, b)
#define GAQ_OF_ISA(things) GAQ_JOIN(GAQ_ISA, things)
#if defined(GAQ_HAS_X86)
#define GAQ_PER_ISA(things) {&scalar_##things, &avx2_##things, &avx512_##things}
#else
#define GAQ_PER_ISA(things) {&scalar_##things, nullptr, nullptr}
#endif

namespace gaq {

enum class Isa { scalar, avx2, avx512 };
constexpr Isa ALL_ISAS[] = {Isa::scalar, Isa::avx2, Isa::avx512};  // the best last

const char* name_of(Isa isa);
bool available(Isa isa);

// One thing for each instruction set; those that this build does not have are null.
template <class T>
struct PerIsa {
    const T *scalar, *avx2, *avx512;
    const T& operator[](Isa isa) const { return *(isa == Isa::avx512 ? avx512 : isa == Isa::avx2 ? avx2 : scalar); }
};

}  // namespace gaq
