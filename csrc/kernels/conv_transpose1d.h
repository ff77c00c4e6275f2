// Streaming transposed conv1d, channels last:
//
//   y[r, o] = bias[o] + sum_{t, j: t * stride + j = r} sum_c x[t, c] w[c, o, j]
//
// The kernel is prepacked at load as one matrix [in, kernel * out], tap-major, so the products are one GEMM
// into scratch; the overlap-add then sums what falls on the same row, oldest input first, and adds the bias
// once. State: the kernel - stride rows that later inputs still add to, without bias.
// Any split of the rows gives the same bits as one call.
//
// Why not gather form (one small GEMM per phase): the products are computed once either way, and the GEMM of
// the scatter form is larger and runs closer to peak.
#pragma once

#include "base/scratch.h"
#include "kernels/gemm.h"

namespace ptts {

struct ConvTransposeShape {
  int in = 0, out = 0, kernel = 1, stride = 1;
};

struct ConvTransposeState {
  Buffer tail;  // [kernel - stride, out]
  ConvTransposeState copy() const { return {tail.copy()}; }
};

class ConvTranspose1d {
 public:
  ConvTranspose1d() = default;
  // weight: torch layout [in, out, kernel]; bias: [out] or empty.
  ConvTranspose1d(Pool& pool, const ConvTransposeShape& shape, const Buffer& weight, Buffer bias,
                  Precision precision = Precision::kFloat32);

  const ConvTransposeShape& shape() const { return shape_; }
  ConvTransposeState new_state() const {
    return {Buffer(static_cast<std::size_t>(shape_.kernel - shape_.stride) * shape_.out)};
  }
  // Stream s has counts[s] rows of x and counts[s] * stride rows of y. `before` is applied to x.
  void step(const KernelTable& kernels, Pool& pool, Scratch& scratch, Activation before, const float* x,
            const int* counts, int streams, ConvTransposeState* const* states, float* y) const;

 private:
  void overlap_add(const KernelTable& kernels, Pool& pool, Scratch& scratch, const float* products, int rows,
                   ConvTransposeState& state, float* y) const;

  ConvTransposeShape shape_;
  PackedMatrix matrix_;
  Buffer bias_;  // zeros when there is none
};

// The depthwise case with kernel = 2 * stride as a stencil: in = out = channels, one weight per tap and channel.
class DepthwiseUpsample {
 public:
  DepthwiseUpsample() = default;
  // weight: torch layout [channels, 1, 2 * stride].
  DepthwiseUpsample(int channels, int stride, const Buffer& weight);

  int channels() const { return channels_; }
  int stride() const { return stride_; }
  ConvTransposeState new_state() const { return {Buffer(static_cast<std::size_t>(stride_) * channels_)}; }
  void step(const KernelTable& kernels, const float* x, const int* counts, int streams,
            ConvTransposeState* const* states, float* y) const;

 private:
  int channels_ = 0, stride_ = 0;
  Buffer weight_;  // [2 * stride, channels]
};

}  // namespace ptts
