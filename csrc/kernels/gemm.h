// GEMM: c[i, j] = residual[i, j] + scale[j] * act(sum_k a[i, k] w[k, j] + bias[j])
//
// Weights are packed at load and never change. A PackedMatrix [depth, cols] consists of panels of kPanel (32)
// columns; a remainder of at most kHalfPanel (16) columns is a panel of width 16. Padding is zero.
//   float32  panel p, row k, lane j at p * 32 * depth + k * 32 + j
//   bfloat16 pairs of depth side by side: (k / 2) * 64 + j * 2 + k % 2, depth padded to a multiple of 2
//   int8     fours of depth side by side: (k / 4) * 128 + j * 4 + k % 4, depth padded to a multiple of 4
//
// Order of summation: every output is one chain of fused multiply-adds over k = 0, 1, ..., depth-1 (bfloat16: pairs,
// the odd one first, as VDPBF16PS does), for one row and for many, on every vector instruction set. So a GEMV is the
// one-row case, prefill equals single steps, and a stream alone equals a stream in a batch, bit for bit. Threads split
// rows and panels, never depth. int8 sums are int32 and exact, the same integers on every instruction set.
//
// Error. float32: depth * eps * sum_k |a w| (one rounding a step). bfloat16: both operands are rounded first, 2^-8
// relative each. int8: weights to 1/254 of their column's largest, rows to 1/254 of their own largest (the scale of a
// row is found when it arrives), so about (max|a| / 254) * sum|w| + (max|w_j| / 254) * sum|a| at worst.
//
// Values that int8 cannot hold: a NaN or an infinity makes every output of its row (in a weight: of its column) NaN; a
// row or a column with nothing above 1e-30 counts as zero. bfloat16 sums below 2^-126 may be flushed to zero
// (VDPBF16PS).
//
// Why not several partial sums per output: lanes already run across outputs, so there is no horizontal
// sum to save, and two accumulators per row and panel hide the latency of the chain.
//
// Aliasing: c must not overlap a; residual may be c. Scratch: converted rows (not for float32). Threads: parallel_for
// over panels (chunks of about 256 KiB of weights) and blocks of rows.
#pragma once

#include <cstdint>
#include <functional>

#include "base/buffer.h"
#include "base/parallel.h"
#include "base/scratch.h"
#include "isa/table.h"

namespace ptts {

class PackedMatrix {
 public:
  PackedMatrix() = default;
  // read(start, count, out) converts `count` stored values from flat index `start` on.
  using ReadFloats = std::function<void(std::size_t, int, float*)>;
  // From rows of outputs, as torch stores a Linear: [cols, depth], row-major, of any element type.
  static PackedMatrix from_outputs(Pool& pool, int depth, int cols, const ReadFloats& read,
                                   Precision precision = Precision::kFloat32);
  // column(j, out) writes the `depth` weights of output j.
  using ReadColumn = std::function<void(int, float*)>;
  static PackedMatrix from_columns(Pool& pool, int depth, int cols, const ReadColumn& column,
                                   Precision precision = Precision::kFloat32);

  int depth() const { return depth_; }
  int cols() const { return cols_; }
  int panels() const { return (cols_ + kPanel - 1) / kPanel; }
  Precision precision() const { return precision_; }
  PackedView view() const;
  std::size_t bytes() const { return (data_.size() + col_scale_.size() + col_sum_.size()) * sizeof(float); }

 private:
  PackedMatrix(int depth, int cols, Precision precision);
  void pack_panel(int panel, const ReadColumn& column);

  int depth_ = 0, cols_ = 0;
  Precision precision_ = Precision::kFloat32;
  Buffer data_, col_scale_, col_sum_;
};

// Rows of all segments (float32) against the same weights; each weight panel is read once per block of rows.
void gemm(const KernelTable& kernels, Pool& pool, Scratch& scratch, const GemmSegment* segments, int count,
          const PackedMatrix& weights, const Epilogue& epilogue);

}  // namespace ptts
