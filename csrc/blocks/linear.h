// y = residual + scale * act(x W^T + b): torch.nn.Linear with its neighbours fused.
#pragma once

#include <string>

#include "blocks/context.h"
#include "blocks/weights.h"
#include "kernels/gemm.h"

namespace ptts {

class Linear {
 public:
  Linear() = default;
  // Reads `name`.weight [out, in] and, when it exists, `name`.bias [out].
  Linear(Pool& pool, const WeightMap& weights, const std::string& name, int in, int out,
         Precision precision = Precision::kFloat32);

  bool empty() const { return matrix_.cols() == 0; }
  int in() const { return matrix_.depth(); }
  int out() const { return matrix_.cols(); }

  struct Fused {
    Activation activation = Activation::kNone;
    const float* scale = nullptr;     // [out]
    const float* residual = nullptr;  // [rows, out], may be y
  };
  // x [rows, in] -> y [rows, out], both contiguous.
  void apply(const Context& context, const float* x, int rows, float* y, const Fused& fused) const;
  void apply(const Context& context, const float* x, int rows, float* y) const { apply(context, x, rows, y, Fused()); }

 private:
  PackedMatrix matrix_;
  Buffer bias_;
};

}  // namespace ptts
