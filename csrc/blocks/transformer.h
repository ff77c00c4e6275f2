// Causal pre-norm transformer over ragged batches of streams, with key/value caches.
//
// Layer: x += scale1 * Wo attention(rope(Wqkv norm1(x))); x += scale2 * W2 gelu_tanh(W1 norm2(x)).
// LayerNorm eps 1e-5 with affine; in_proj rows are [q | k | v] with q `attention_dim` wide and k, v
// kv_heads * head_dim wide; RoPE on interleaved pairs at the absolute position; window > 0 limits how many
// positions a query sees. Optional bias-free projections stand before and after.
// Source: pocket_tts.modules.transformer and .attention, streaming path.
#pragma once

#include <memory>
#include <vector>

#include "blocks/linear.h"
#include "kernels/attention.h"

namespace ptts {

struct TransformerShape {
  int input = 0, model = 0, output = 0;  // input/output == model: no projection
  int layers = 0, heads = 0, kv_heads = 0, attention_dim = 0, feedforward = 0;
  int window = 0;
  float max_period = 10000.0f;
  bool layer_scale = false;
  Precision precision = Precision::kFloat32;  // of every linear
};

class TransformerState {
 public:
  std::vector<KvCache> layers;

  int position() const { return layers.empty() ? 0 : layers.front().position(); }
  TransformerState copy() const;
};

class Transformer {
 public:
  Transformer() = default;
  // Tensor names: [input_proj.weight, output_projs.0.weight,] transformer.layers.<i>.{norm1,norm2}.{weight,bias},
  // .self_attn.{in_proj,out_proj}.weight, .{linear1,linear2}.weight, [.layer_scale_{1,2}.scale], after `prefix`.
  Transformer(Pool& pool, const WeightMap& weights, const std::string& prefix, const TransformerShape& shape);

  const TransformerShape& shape() const { return shape_; }
  TransformerState new_state(int capacity = 0) const;

  // x [total, input] -> y [total, output]; appends every row to its stream's caches. y may be x when the
  // widths agree.
  void step(const Context& context, const float* x, const Ragged& rows, TransformerState* const* states,
            float* y) const;

 private:
  struct Layer {
    Buffer norm1_weight, norm1_bias, norm2_weight, norm2_bias, scale1, scale2;
    Linear in_proj, out_proj, linear1, linear2;
  };
  void attend(const Context& context, const Layer& layer, int index, const Ragged& rows, const float* cosine,
              const float* sine, TransformerState* const* states, float* x) const;

  TransformerShape shape_;
  std::vector<float> frequencies_;  // [head_dim / 2]
  Linear input_proj_, output_proj_;
  std::vector<Layer> layers_;
};

// norm(x) of `rows` rows of n, spread over the pool.
void layer_norm(const Context& context, const float* x, int rows, int n, float eps, const Buffer& weight,
                const Buffer& bias, float* y);

}  // namespace ptts
