// GEMM: c[i, j] = residual[i, j] + scale[j] * act(sum_k a[i, k] w[k, j] + bias[j])
//
// Weights are packed at load and never change. Layout of a PackedMatrix [depth, cols]: panels of
// kPanel (32) columns, each stored depth-major: panel p, row k, lane j at p * 32 * depth + k * 32 + j.
// A remainder of at most kHalfPanel (16) columns is a panel of width 16. Padding columns are zero.
//
// Order of summation: every output is one chain of fused multiply-adds over k = 0, 1, ..., depth-1,
// for one row and for many, on every vector instruction set. So a GEMV is the one-row case, prefill
// equals single steps, and a stream alone equals a stream in a batch, bit for bit. Threads split rows
// and panels, never depth.
// Error: |c - exact| <= depth * eps * sum_k |a[i, k] w[k, j]| (one rounding a step).
//
// Why not several partial sums per output: lanes already run across outputs, so there is no horizontal
// sum to save, and two accumulators per row and panel hide the latency of the chain.
//
// Aliasing: c must not overlap a; residual may be c. Scratch: none. Threads: parallel_for over panels
// (chunks of about 256 KiB of weights) and blocks of rows.
#pragma once

#include <cstdint>
#include <functional>

#include "base/buffer.h"
#include "base/parallel.h"
#include "isa/table.h"

namespace ptts {

class PackedMatrix {
 public:
  PackedMatrix() = default;
  // read(start, count, out) converts `count` stored values from flat index `start` on.
  using ReadFloats = std::function<void(std::size_t, int, float*)>;
  // From rows of outputs, as torch stores a Linear: [cols, depth], row-major, of any element type.
  static PackedMatrix from_outputs(Pool& pool, int depth, int cols, const ReadFloats& read);
  // element(k, j) gives w[k, j], in any order.
  static PackedMatrix from_elements(int depth, int cols, const std::function<float(int, int)>& element);

  int depth() const { return depth_; }
  int cols() const { return cols_; }
  int panels() const { return (cols_ + kPanel - 1) / kPanel; }
  const float* data() const { return data_.data(); }
  std::size_t bytes() const { return data_.size() * sizeof(float); }

 private:
  PackedMatrix(int depth, int cols);

  int depth_ = 0, cols_ = 0;
  Buffer data_;
};

// Rows of all segments against the same weights; each weight panel is read once per block of rows.
void gemm(const KernelTable& kernels, Pool& pool, const GemmSegment* segments, int count,
          const PackedMatrix& weights, const Epilogue& epilogue);

}  // namespace ptts
