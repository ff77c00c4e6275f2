#include "blocks/linear.h"

namespace ptts {

Linear::Linear(Pool& pool, const WeightMap& weights, const std::string& name, int in, int out, Precision precision) {
  const TensorView& view = weights.get(name + ".weight", {out, in});
  matrix_ = PackedMatrix::from_outputs(
      pool, in, out, [&](std::size_t start, int count, float* values) { view.read(start, count, values); }, precision);
  if (weights.has(name + ".bias")) bias_ = weights.buffer(name + ".bias", {out});
}

void Linear::apply(const Context& context, const float* x, int rows, float* y, const Fused& fused) const {
  const GemmSegment segment{x, in(), rows, y, out(), fused.residual, out()};
  const Epilogue epilogue{bias_.empty() ? nullptr : bias_.data(), fused.scale, fused.activation};
  gemm(context.kernels, context.pool, context.scratch, &segment, 1, matrix_, epilogue);
}

}  // namespace ptts
