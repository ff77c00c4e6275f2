// What one instruction set provides: plain functions over plain pointers.
//
// isa/table.cpp is compiled once per set with that set's flags and exports one symbol,
// kernel_table_<set>. Everything else in it has internal linkage and uses no inline function or
// template of the standard library: the linker keeps ONE copy of such a function, and if that copy
// came from the AVX-512 object the baseline path would crash on an older processor.
//
// Layout conventions. Rows are channels-last; `ld*` is the distance between rows in floats. Packed
// weights: kernels/gemm.h. Key/value caches: kernels/attention.h.
#pragma once

#include <cstddef>

namespace ptts {

enum class Activation : int { kNone = 0, kElu = 1, kSilu = 2, kGeluTanh = 3 };

// Columns of packed weights come in panels of this many; the last panel may be half as wide.
constexpr int kPanel = 32;
constexpr int kHalfPanel = 16;

// Arithmetic of a product: how weights are stored and rows are converted. Sums are float32, int32, float32.
enum class Precision : int { kFloat32 = 0, kInt8 = 1, kBFloat16 = 2 };

// int8: rows and columns whose largest value is smaller count as zero; far below anything a network computes.
constexpr float kSmallestPeak = 1e-30f;

// Rows of one operand with their own place in memory; several share one pass over the weights.
struct GemmSegment {
  const void* a = nullptr;  // [rows, depth] of the kernel's element type, rows lda apart; may overlap (lda < depth)
  std::ptrdiff_t lda = 0;
  int rows = 0;
  float* c = nullptr;  // [rows, cols]
  std::ptrdiff_t ldc = 0;
  const float* residual = nullptr;  // [rows, cols] or null; may be c itself
  std::ptrdiff_t ldr = 0;
  const float* row_scale = nullptr;  // int8 only: [rows]
};

// What a packed matrix is to a kernel: panels, and for int8 the scale and the sum of each column.
struct PackedView {
  const void* data = nullptr;
  int depth = 0, cols = 0;
  const float* col_scale = nullptr;  // [cols padded to a Vec]
  const int* col_sum = nullptr;      // [cols padded to a Vec]
};

// c = residual + scale * activation(a w + bias); absent parts are null.
struct Epilogue {
  const float* bias = nullptr;   // [cols]
  const float* scale = nullptr;  // [cols]
  Activation activation = Activation::kNone;
};

// One key/value head of one stream: see kernels/attention.h for the layout.
struct AttentionHead {
  const float* q = nullptr;  // query i at q + i * ldq, head_dim floats
  std::ptrdiff_t ldq = 0;
  float* out = nullptr;  // like q
  std::ptrdiff_t ldo = 0;
  const float* keys = nullptr;
  const float* values = nullptr;
  int head_dim = 0;
  int queries = 0;
  int last = 0;             // query i sees cache slots [max(0, last + i + 1 - window), last + i]
  int window = 0;           // 0 = all slots from the first
  float scale = 1.0f;       // multiplies q k
  float* scores = nullptr;  // scratch, kAttentionTile * (last + queries rounded up to 16)
};

constexpr int kAttentionTile = 4;

constexpr std::size_t kSpinBytes = 4096, kSpinFloats = 16 * 16;

struct KernelTable {
  const char* name;

  // Rows [row_begin, row_end) of the segment times panels [panel_begin, panel_end); one form per Precision.
  using Gemm = void (*)(const GemmSegment* segment, int row_begin, int row_end, const PackedView* packed,
                        int panel_begin, int panel_end, const Epilogue* epilogue);
  Gemm gemm_float32, gemm_int8, gemm_bf16;

  // int8 rows: bytes of one element (1: unsigned with 128 added, 2: signed), and one row of n floats into
  // quantized form, zero up to the next multiple of 4; returns its scale, max|x| / 127, or NaN for a row that holds a
  // NaN or an infinity.
  int quantized_bytes;
  float (*quantize_row)(const float* x, int n, void* out);

  // Nearest even bfloat16; subnormals become zero, NaN stays NaN.
  void (*to_bf16)(const float* x, unsigned short* y, std::size_t n);

  // Softmax attention of all queries of one head.
  void (*attention)(const AttentionHead* head);

  // y = (x - mean) / sqrt(var + eps) [* weight + bias] [* (1 + scale) + shift], one row of n; in place allowed.
  void (*layer_norm)(const float* x, float* y, int n, float eps, const float* weight, const float* bias,
                     const float* shift, const float* scale);

  // y[i] = activation(x[i]); in place allowed.
  void (*activate)(Activation activation, const float* x, float* y, std::size_t n);

  // y[i] += x[i]
  void (*add)(const float* x, float* y, std::size_t n);

  // y[i] = x[i] + gate[i] * h[i]; in place allowed.
  void (*gated_add)(const float* x, const float* gate, const float* h, float* y, std::size_t n);

  // y[i] = (a[i] + b[i]) + c[i % period]; the sum of an overlap-add step.
  void (*overlap_add)(const float* a, const float* b, const float* c, std::size_t period, float* y, std::size_t n);

  // Depthwise transposed convolution of one input row x [channels], kernel = 2 * stride:
  // out[s, c] = tail[s, c] + x[c] * w[s, c]; tail[s, c] = x[c] * w[stride + s, c].
  void (*depthwise_upsample)(const float* x, const float* w, int stride, int channels, float* tail, float* out);

  // Rotates `heads` heads of head_dim interleaved pairs in place; cos, sin: [head_dim / 2].
  void (*rope)(float* x, int heads, int head_dim, const float* cosine, const float* sine);

  // n numbers through vexp, for tests of its error bound.
  void (*exp)(const float* x, float* y, std::size_t n);

  // The loops behind kernels/limits.h: the sum of n floats (a multiple of 128), and `rounds` rounds of products in
  // registers, which returns the number of operations. a, w: kSpinBytes; out: kSpinFloats.
  float (*read_floats)(const float* x, std::size_t n);
  double (*spin)(Precision precision, int rounds, const void* a, const void* w, float* out);
};

extern "C" {
const KernelTable* kernel_table_scalar();
const KernelTable* kernel_table_avx2();
const KernelTable* kernel_table_avx512();
const KernelTable* kernel_table_avx512_vnni();
const KernelTable* kernel_table_avx512_bf16();
const KernelTable* kernel_table_neon();
}

}  // namespace ptts
