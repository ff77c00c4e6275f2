#include "blocks/seanet.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace ptts {
namespace {

Conv1d read_conv(Pool& pool, const WeightMap& weights, const std::string& name, const Conv1dShape& shape,
                 Precision precision) {
  return Conv1d(pool, shape, weights.buffer(name + ".conv.weight", {shape.out, shape.in, shape.kernel}),
                weights.buffer(name + ".conv.bias", {shape.out}), precision);
}

}  // namespace

SeanetState SeanetState::copy() const {
  SeanetState out;
  for (const Conv1dState& state : convs) out.convs.push_back(state.copy());
  for (const ConvTransposeState& state : upsamples) out.upsamples.push_back(state.copy());
  return out;
}

void Seanet::add_conv(Pool& pool, const WeightMap& weights, const std::string& name, const Conv1dShape& shape,
                      Activation before) {
  stages_.push_back({Stage::Kind::kConv, static_cast<int>(convs_.size()), before});
  convs_.push_back(read_conv(pool, weights, name, shape, shape_.precision));
}

void Seanet::add_residual(Pool& pool, const WeightMap& weights, const std::string& name, int channels, int dilation) {
  const int hidden = channels / shape_.compress;
  stages_.push_back({Stage::Kind::kResidual, static_cast<int>(convs_.size()), Activation::kElu});
  convs_.push_back(read_conv(pool, weights, name + ".block.1",
                             {channels, hidden, shape_.residual_kernel, 1, dilation, shape_.padding},
                             shape_.precision));
  convs_.push_back(
      read_conv(pool, weights, name + ".block.3", {hidden, channels, 1, 1, 1, shape_.padding}, shape_.precision));
}

Seanet::Seanet(Pool& pool, const WeightMap& weights, const std::string& prefix, const SeanetShape& shape, Half half)
    : shape_(shape) {
  int index = 0;  // torch's module list counts activations too
  const auto name = [&](int i) { return prefix + "model." + std::to_string(i); };
  const auto residuals = [&](int channels) {
    int dilation = 1;
    for (int j = 0; j < shape.residual_layers; ++j, dilation *= shape.dilation_base)
      add_residual(pool, weights, name(index++), channels, dilation);
  };
  if (half == Half::kDecoder) {
    int channels = shape.filters << shape.ratios.size();
    add_conv(pool, weights, name(index++), {shape.dimension, channels, shape.kernel, 1, 1, shape.padding},
             Activation::kNone);
    for (const int ratio : shape.ratios) {
      const ConvTransposeShape up{channels, channels / 2, 2 * ratio, ratio};
      const std::string up_name = name(index + 1) + ".convtr.";
      stages_.push_back({Stage::Kind::kUpsample, static_cast<int>(upsamples_.size()), Activation::kElu});
      upsamples_.emplace_back(pool, up, weights.buffer(up_name + "weight", {up.in, up.out, up.kernel}),
                              weights.buffer(up_name + "bias", {up.out}), shape.precision);
      index += 2;
      channels /= 2;
      residuals(channels);
    }
    add_conv(pool, weights, name(index + 1), {channels, shape.channels, shape.last_kernel, 1, 1, shape.padding},
             Activation::kElu);
  } else {
    int channels = shape.filters;
    add_conv(pool, weights, name(index++), {shape.channels, channels, shape.kernel, 1, 1, shape.padding},
             Activation::kNone);
    for (auto ratio = shape.ratios.rbegin(); ratio != shape.ratios.rend(); ++ratio) {
      residuals(channels);
      add_conv(pool, weights, name(index + 1), {channels, 2 * channels, 2 * *ratio, *ratio, 1, shape.padding},
               Activation::kElu);
      index += 2;
      channels *= 2;
    }
    add_conv(pool, weights, name(index + 1), {channels, shape.dimension, shape.last_kernel, 1, 1, shape.padding},
             Activation::kElu);
  }
}

SeanetState Seanet::new_state() const {
  SeanetState out;
  for (const Conv1d& conv : convs_) out.convs.push_back(conv.new_state());
  for (const ConvTranspose1d& upsample : upsamples_) out.upsamples.push_back(upsample.new_state());
  return out;
}

// Runs one stage; counts become the rows of y. Returns the floats of y.
std::size_t Seanet::run(const Context& context, const Stage& stage, const float* x, int* counts, int streams,
                        SeanetState* const* states, float* y) const {
  const Scratch::Mark mark(context.scratch);
  auto** conv_states = context.scratch.of<Conv1dState*>(static_cast<std::size_t>(streams));
  const auto conv = [&](int index, const float* in, float* out, const Conv1d::Fused& fused) {
    for (int s = 0; s < streams; ++s) conv_states[s] = &states[s]->convs[index];
    convs_[index].step(context.kernels, context.pool, context.scratch, in, counts, streams, conv_states, out, fused);
  };
  std::size_t rows = 0;
  for (int s = 0; s < streams; ++s) rows += counts[s];
  switch (stage.kind) {
    case Stage::Kind::kConv: {
      conv(stage.first, x, y, {stage.before, Activation::kNone, nullptr});
      const Conv1dShape& shape = convs_[stage.first].shape();
      for (int s = 0; s < streams; ++s) counts[s] /= shape.stride;
      return rows / shape.stride * shape.out;
    }
    case Stage::Kind::kResidual: {
      const Conv1dShape& inner = convs_[stage.first].shape();
      float* hidden = context.scratch.floats(rows * inner.out);
      conv(stage.first, x, hidden, {Activation::kElu, Activation::kElu, nullptr});
      conv(stage.first + 1, hidden, y, {Activation::kNone, Activation::kNone, x});
      return rows * inner.in;
    }
    case Stage::Kind::kUpsample: {
      auto** up_states = context.scratch.of<ConvTransposeState*>(static_cast<std::size_t>(streams));
      for (int s = 0; s < streams; ++s) up_states[s] = &states[s]->upsamples[stage.first];
      const ConvTranspose1d& upsample = upsamples_[stage.first];
      upsample.step(context.kernels, context.pool, context.scratch, stage.before, x, counts, streams, up_states, y);
      for (int s = 0; s < streams; ++s) counts[s] *= upsample.shape().stride;
      return rows * upsample.shape().stride * upsample.shape().out;
    }
  }
  return 0;
}

void Seanet::step(const Context& context, const float* x, const Ragged& rows, SeanetState* const* states,
                  float* y) const {
  const Scratch::Mark mark(context.scratch);
  int* counts = context.scratch.of<int>(static_cast<std::size_t>(rows.streams));
  std::memcpy(counts, rows.counts, rows.streams * sizeof(int));
  // Stages take turns between two buffers as wide as the widest of them; the last writes to y.
  std::size_t widest = 0, total = static_cast<std::size_t>(rows.total()), now = total;
  for (const Stage& stage : stages_) {
    if (stage.kind == Stage::Kind::kConv) {
      const Conv1dShape& shape = convs_[stage.first].shape();
      now /= shape.stride;
      widest = std::max(widest, now * shape.out);
    } else if (stage.kind == Stage::Kind::kUpsample) {
      const ConvTransposeShape& shape = upsamples_[stage.first].shape();
      now *= shape.stride;
      widest = std::max(widest, now * shape.out);
    }
  }
  float* buffers[2] = {context.scratch.floats(widest), context.scratch.floats(widest)};
  const float* in = x;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    float* out = i + 1 == stages_.size() ? y : buffers[i % 2];
    run(context, stages_[i], in, counts, rows.streams, states, out);
    in = out;
  }
}

}  // namespace ptts
