// Compiled once for each instruction set, with -DGAQ_AVX512, -DGAQ_AVX2 or neither.
#include "attend_adjoint.h"
#include "embedding.h"
#include "frames.h"
#include "update.h"
#include "selftest.h"

namespace gaq {

#if defined(GAQ_AVX512)
#define GAQ_KERNELS avx512_kernels
#elif defined(GAQ_AVX2)
#define GAQ_KERNELS avx2_kernels
#else
#define GAQ_KERNELS scalar_kernels
#endif
#define GAQ_TEXT(x) #x
#define GAQ_NAME(x) GAQ_TEXT(x)

extern const Kernels GAQ_KERNELS;
const Kernels GAQ_KERNELS = {
    GAQ_NAME(GAQ_ISA), GAQ_ISA::near_pairs, GAQ_ISA::surround, GAQ_ISA::settle, GAQ_ISA::orient, GAQ_ISA::embed_start,
    GAQ_ISA::embed, GAQ_ISA::prepare, GAQ_ISA::attend, GAQ_ISA::finish, GAQ_ISA::readout, GAQ_ISA::finish_adjoint,
    GAQ_ISA::attend_adjoint, GAQ_ISA::prepare_adjoint, GAQ_ISA::embed_adjoint, GAQ_ISA::push, GAQ_ISA::works,
    GAQ_ISA::burn};

}  // namespace gaq
