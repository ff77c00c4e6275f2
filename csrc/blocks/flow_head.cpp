#include "blocks/flow_head.h"

#include <cmath>
#include <cstring>

#include "base/check.h"

namespace ptts {
namespace {

constexpr float kNormEps = 1e-6f;
constexpr int kTimeFeatures = 256;

// One time embedder at time t, in double: [cos, sin] of t * freqs, Linear, SiLU, Linear, then x * alpha / sqrt(var +
// 1e-5) with var UNBIASED and mean-centred while the numerator is not centred.
std::vector<double> embed_time(const WeightMap& weights, const std::string& name, int model, float t) {
  const int half = kTimeFeatures / 2;
  const Buffer freqs = weights.buffer(name + "freqs", {half});
  const Buffer w0 = weights.buffer(name + "mlp.0.weight", {model, kTimeFeatures});
  const Buffer b0 = weights.buffer(name + "mlp.0.bias", {model});
  const Buffer w2 = weights.buffer(name + "mlp.2.weight", {model, model});
  const Buffer b2 = weights.buffer(name + "mlp.2.bias", {model});
  const Buffer alpha = weights.buffer(name + "mlp.3.alpha", {model});
  std::vector<double> features(kTimeFeatures), hidden(model), out(model);
  for (int i = 0; i < half; ++i) {
    const double angle = t * freqs[i];
    features[i] = std::cos(angle);
    features[half + i] = std::sin(angle);
  }
  for (int j = 0; j < model; ++j) {
    double sum = b0[j];
    for (int k = 0; k < kTimeFeatures; ++k) sum += features[k] * w0[static_cast<std::size_t>(j) * kTimeFeatures + k];
    hidden[j] = sum / (1.0 + std::exp(-sum));
  }
  double mean = 0;
  for (int j = 0; j < model; ++j) {
    double sum = b2[j];
    for (int k = 0; k < model; ++k) sum += hidden[k] * w2[static_cast<std::size_t>(j) * model + k];
    out[j] = sum;
    mean += sum / model;
  }
  double variance = 0;
  for (const double value : out) variance += (value - mean) * (value - mean) / (model - 1);
  for (int j = 0; j < model; ++j) out[j] *= alpha[j] / std::sqrt(1e-5 + variance);
  return out;
}

}  // namespace

FlowHead::FlowHead(Pool& pool, const WeightMap& weights, const std::string& prefix, const FlowHeadShape& shape)
    : shape_(shape) {
  check(shape.steps >= 1, "the number of sampler steps must be at least 1, got ", shape.steps);
  const int d = shape.model;
  cond_embed_ = Linear(pool, weights, prefix + "cond_embed", shape.condition, d, shape.precision);
  input_proj_ = Linear(pool, weights, prefix + "input_proj", shape.latent, d);
  for (int i = 0; i < shape.depth; ++i) {
    const std::string name = prefix + "res_blocks." + std::to_string(i) + ".";
    Block block;
    block.norm_weight = weights.buffer(name + "in_ln.weight", {d});
    block.norm_bias = weights.buffer(name + "in_ln.bias", {d});
    block.first = Linear(pool, weights, name + "mlp.0", d, d, shape.precision);
    block.second = Linear(pool, weights, name + "mlp.2", d, d, shape.precision);
    block.modulation = Linear(pool, weights, name + "adaLN_modulation.1", d, 3 * d, shape.precision);
    blocks_.push_back(std::move(block));
  }
  final_linear_ = Linear(pool, weights, prefix + "final_layer.linear", d, shape.latent);
  final_modulation_ = Linear(pool, weights, prefix + "final_layer.adaLN_modulation.1", d, 2 * d, shape.precision);

  const int conditions = shape.type == FlowType::kLsd ? 2 : shape.type == FlowType::kFlowMatching ? 1 : 0;
  if (conditions == 0) return;
  for (int i = 0; i < shape.steps; ++i) {
    std::vector<double> total(d, 0.0);
    for (int c = 0; c < conditions; ++c) {
      const float t = static_cast<float>(static_cast<double>(i + c) / shape.steps);
      const std::vector<double> embedded = embed_time(weights, prefix + "time_embed." + std::to_string(c) + ".", d, t);
      for (int j = 0; j < d; ++j) total[j] += embedded[j] / conditions;
    }
    Buffer time(d);
    for (int j = 0; j < d; ++j) time[j] = static_cast<float>(total[j]);
    time_.push_back(std::move(time));
  }
}

void FlowHead::head(const Context& context, const float* embedded, int rows, const float* x, float* out) const {
  const Scratch::Mark mark(context.scratch);
  const int d = shape_.model;
  const std::size_t floats = static_cast<std::size_t>(rows) * d;
  float* y = context.scratch.floats(floats);  // silu(y): the modulations want nothing else
  float* h = context.scratch.floats(floats);
  float* normed = context.scratch.floats(floats);
  float* inner = context.scratch.floats(floats);
  float* modulation = context.scratch.floats(3 * floats);
  context.kernels.activate(Activation::kSilu, embedded, y, floats);
  input_proj_.apply(context, x, rows, h);

  for (const Block& block : blocks_) {
    block.modulation.apply(context, y, rows, modulation);
    for (int r = 0; r < rows; ++r) {
      const float* shift = modulation + static_cast<std::size_t>(r) * 3 * d;
      context.kernels.layer_norm(h + r * d, normed + r * d, d, kNormEps, block.norm_weight.data(),
                                 block.norm_bias.data(), shift, shift + d);
    }
    block.first.apply(context, normed, rows, inner, {Activation::kSilu, nullptr, nullptr});
    block.second.apply(context, inner, rows, normed);
    for (int r = 0; r < rows; ++r)
      context.kernels.gated_add(h + r * d, modulation + static_cast<std::size_t>(r) * 3 * d + 2 * d, normed + r * d,
                                h + r * d, static_cast<std::size_t>(d));
  }
  final_modulation_.apply(context, y, rows, modulation);
  for (int r = 0; r < rows; ++r) {
    const float* shift = modulation + static_cast<std::size_t>(r) * 2 * d;
    context.kernels.layer_norm(h + r * d, normed + r * d, d, kNormEps, nullptr, nullptr, shift, shift + d);
  }
  final_linear_.apply(context, normed, rows, out);
}

void FlowHead::sample(const Context& context, const float* condition, const float* noise, int rows, float* out) const {
  const Scratch::Mark mark(context.scratch);
  const int d = shape_.model;
  const std::size_t latents = static_cast<std::size_t>(rows) * shape_.latent;
  float* embedded = context.scratch.floats(static_cast<std::size_t>(rows) * d);
  float* with_time = context.scratch.floats(static_cast<std::size_t>(rows) * d);
  float* flow = context.scratch.floats(latents);
  cond_embed_.apply(context, condition, rows, embedded);
  if (time_.empty()) {
    head(context, embedded, rows, noise, flow);
    for (std::size_t i = 0; i < latents; ++i)
      out[i] = shape_.type == FlowType::kPointwise ? noise[i] + flow[i] : flow[i];
    return;
  }
  if (out != noise) std::memcpy(out, noise, latents * sizeof(float));
  for (const Buffer& time : time_) {
    std::memcpy(with_time, embedded, static_cast<std::size_t>(rows) * d * sizeof(float));
    for (int r = 0; r < rows; ++r) context.kernels.add(time.data(), with_time + r * d, static_cast<std::size_t>(d));
    head(context, with_time, rows, out, flow);
    const float steps = static_cast<float>(shape_.steps);
    for (std::size_t i = 0; i < latents; ++i) out[i] += flow[i] / steps;
  }
}

}  // namespace ptts
