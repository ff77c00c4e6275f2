// SEANet: the convolutional halves of the codec.
//
// Encoder: conv, then per ratio (smallest hop first) residual blocks, ELU, strided conv; then ELU, conv.
// Decoder: conv, then per ratio ELU, transposed conv, residual blocks; then ELU, conv. No final activation.
// Residual block: x + conv1x1(elu(conv_k(elu(x)))), dilation dilation_base^j for block j of a ratio.
// Source: pocket_tts.modules.seanet, .conv; SEANet: arXiv:2009.02095.
#pragma once

#include <string>
#include <vector>

#include "blocks/context.h"
#include "blocks/weights.h"
#include "kernels/conv1d.h"
#include "kernels/conv_transpose1d.h"

namespace ptts {

struct SeanetShape {
  int dimension = 0, channels = 1, filters = 0, residual_layers = 1;
  std::vector<int> ratios;  // as the decoder walks them
  int kernel = 7, residual_kernel = 3, last_kernel = 3, dilation_base = 2, compress = 2;
  Padding padding = Padding::kZero;
  Precision precision = Precision::kFloat32;

  int hop() const {
    int out = 1;
    for (const int ratio : ratios) out *= ratio;
    return out;
  }
};

struct SeanetState {
  std::vector<Conv1dState> convs;
  std::vector<ConvTransposeState> upsamples;
  SeanetState copy() const;
};

class Seanet {
 public:
  enum class Half { kEncoder, kDecoder };
  Seanet() = default;
  // Tensor names: model.<i>[.block.<j>].{conv,convtr}.{weight,bias} after `prefix`, as torch numbers the list.
  Seanet(Pool& pool, const WeightMap& weights, const std::string& prefix, const SeanetShape& shape, Half half);

  const SeanetShape& shape() const { return shape_; }
  SeanetState new_state() const;

  // Encoder: x [rows, channels] -> y [rows / hop, dimension]; rows of each stream a multiple of the hop.
  // Decoder: x [rows, dimension] -> y [rows * hop, channels]. y is contiguous and must not overlap x.
  void step(const Context& context, const float* x, const Ragged& rows, SeanetState* const* states, float* y) const;

 private:
  struct Stage {
    enum class Kind { kConv, kResidual, kUpsample } kind;
    int first;  // index into convs_ or upsamples_; a residual block takes two convs
    Activation before;
  };
  void add_conv(Pool& pool, const WeightMap& weights, const std::string& name, const Conv1dShape& shape,
                Activation before);
  void add_residual(Pool& pool, const WeightMap& weights, const std::string& name, int channels, int dilation);
  std::size_t run(const Context& context, const Stage& stage, const float* x, int* counts, int streams,
                  SeanetState* const* states, float* y) const;

  SeanetShape shape_;
  std::vector<Stage> stages_;
  std::vector<Conv1d> convs_;
  std::vector<ConvTranspose1d> upsamples_;
};

}  // namespace ptts
