// Streaming causal conv1d, channels last:
//
//   y[t, o] = bias[o] + sum_{j, c} w[o, c, j] x[t * stride + j * dilation - pad, c],
//   pad = (kernel - 1) * dilation + 1 - stride
//
// im2col over pooled scratch: [history | chunk] is laid out once; with dilation 1 the rows of the im2col
// matrix are overlapping views of it (row t starts at t * stride * channels), so the convolution is one GEMM
// with depth kernel * channels and no copy. With dilation the taps are gathered into scratch first.
// The pre-activation (ELU in SEANet) is applied while the chunk is copied behind the history.
//
// State: the last `pad` rows of the (activated) input. Any split of the rows gives the same bits as one call.
// Rows per call must be a multiple of the stride. Threads: parallel_for inside gemm and over the copy.
#pragma once

#include "base/scratch.h"
#include "kernels/gemm.h"

namespace ptts {

enum class Padding { kZero, kReplicate };  // what stands before the first row

struct Conv1dShape {
  int in = 0, out = 0, kernel = 1, stride = 1, dilation = 1;
  Padding padding = Padding::kZero;
};

struct Conv1dState {
  Buffer history;  // [pad, in]
  bool first = true;
  Conv1dState copy() const { return {history.copy(), first}; }
};

class Conv1d {
 public:
  Conv1d() = default;
  // weight: torch layout [out, in, kernel]; bias: [out] or empty.
  Conv1d(Pool& pool, const Conv1dShape& shape, const Buffer& weight, Buffer bias,
         Precision precision = Precision::kFloat32);

  const Conv1dShape& shape() const { return shape_; }
  int pad() const { return (shape_.kernel - 1) * shape_.dilation + 1 - shape_.stride; }
  Conv1dState new_state() const { return {Buffer(static_cast<std::size_t>(pad()) * shape_.in), true}; }

  struct Fused {
    Activation before = Activation::kNone;  // on x
    Activation after = Activation::kNone;   // on y, before the residual
    const float* residual = nullptr;        // rows of y, contiguous; may be y
  };
  // Stream s has counts[s] rows of x and counts[s] / stride rows of y; all contiguous. y must not overlap x.
  void step(const KernelTable& kernels, Pool& pool, Scratch& scratch, const float* x, const int* counts, int streams,
            Conv1dState* const* states, float* y, const Fused& fused) const;

 private:
  Conv1dShape shape_;
  PackedMatrix matrix_;
  Buffer bias_;
};

}  // namespace ptts
