// The sampling head: an AdaLN MLP that turns noise into a latent, given the backbone's output.
//
// h = input_proj(x); y = cond_embed(c) [+ mean of the time embeddings];
// block: h += gate * W2 silu(W1 (norm(h) (1 + scale) + shift)), [shift | scale | gate] = A silu(y);
// out = W (norm(h) (1 + scale) + shift), [shift | scale] = A silu(y). Norms have eps 1e-6; the last has no affine.
// The four ways to use it (s = i / N, t = (i + 1) / N):
//   kLsd           x += head(c, s, t, x) / N    two time conditions, averaged   (arXiv:2505.18825)
//   kFlowMatching  x += head(c, s, x) / N       one time condition, Euler       (arXiv:2210.02747)
//   kDrifting      x  = head(c, x)              no time condition
//   kPointwise     x += head(c, x)              no time condition
// The time embeddings depend on N only: they are computed once, when N is fixed at construction.
// Source: pocket_tts.modules.mlp, pocket_tts.models.flow_lm.
#pragma once

#include <vector>

#include "blocks/linear.h"

namespace ptts {

enum class FlowType { kLsd, kFlowMatching, kDrifting, kPointwise };

struct FlowHeadShape {
  int latent = 0, model = 0, condition = 0, depth = 0;
  FlowType type = FlowType::kLsd;
  int steps = 1;
  Precision precision = Precision::kFloat32;  // of all but the first and the last linear
};

class FlowHead {
 public:
  FlowHead() = default;
  FlowHead(Pool& pool, const WeightMap& weights, const std::string& prefix, const FlowHeadShape& shape);

  // condition [rows, condition], noise [rows, latent] -> out [rows, latent].
  void sample(const Context& context, const float* condition, const float* noise, int rows, float* out) const;

 private:
  struct Block {
    Buffer norm_weight, norm_bias;
    Linear first, second, modulation;
  };
  void head(const Context& context, const float* embedded, int rows, const float* x, float* out) const;

  FlowHeadShape shape_;
  Linear cond_embed_, input_proj_, final_linear_, final_modulation_;
  std::vector<Block> blocks_;
  std::vector<Buffer> time_;  // one [model] vector per step, or empty
};

}  // namespace ptts
