// Compiled once per instruction set; see isa/table.h for what may not stand here.
//
// CMake defines PTTS_ISA (the set's name, also the suffix of the exported symbol) and PTTS_VEC_HEADER.
#include "isa/table.h"

#include <stddef.h>

// Before the namespaces: the Vec headers name intrinsics but must not open them inside.
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace ptts {
namespace {

#include PTTS_VEC_HEADER
#include "simd/vec_math-inl.h"
#include "kernels/gemm-inl.h"
#include "kernels/gemm_int8-inl.h"
#include "kernels/gemm_bf16-inl.h"
#include "kernels/gemm_loops-inl.h"
#include "kernels/attention-inl.h"
#include "kernels/norm-inl.h"
#include "kernels/elementwise-inl.h"
#include "kernels/rope-inl.h"
#include "kernels/limits-inl.h"

#define PTTS_STRING_(x) #x
#define PTTS_STRING(x) PTTS_STRING_(x)
#define PTTS_JOIN_(a, b) a##b
#define PTTS_JOIN(a, b) PTTS_JOIN_(a, b)

const KernelTable kTable = {
    PTTS_STRING(PTTS_ISA),
    gemm_rows<Float32Tile>,
    gemm_rows<Int8Tile>,
    gemm_rows<BFloat16Tile>,
    static_cast<int>(sizeof(Quantized)),
    quantize_row,
    to_bf16_n,
    attention_head,
    layer_norm_row,
    activate_n,
    add_n,
    gated_add_n,
    overlap_add_n,
    depthwise_upsample_row,
    rope_row,
    exp_n,
    read_floats,
    spin,
};

}  // namespace

extern "C" const KernelTable* PTTS_JOIN(kernel_table_, PTTS_ISA)() { return &kTable; }

}  // namespace ptts
