#include "blocks/codec.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace ptts {
namespace {

int* scaled_counts(const Context& context, const Ragged& rows, int factor) {
  int* counts = context.scratch.of<int>(static_cast<std::size_t>(rows.streams));
  for (int s = 0; s < rows.streams; ++s) counts[s] = rows.counts[s] * factor;
  return counts;
}

template <typename Part, typename Pick>
Part** parts(const Context& context, CodecState* const* states, int streams, Pick pick) {
  auto** out = context.scratch.of<Part*>(static_cast<std::size_t>(streams));
  for (int s = 0; s < streams; ++s) out[s] = pick(*states[s]);
  return out;
}

}  // namespace

CodecState CodecState::copy() const { return {upsample.copy(), downsample.copy(), transformer.copy(), seanet.copy()}; }

CodecDecoder::CodecDecoder(Pool& pool, const WeightMap& weights, const CodecShape& shape)
    : shape_(shape),
      std_(weights.buffer("emb_std", {shape.latent})),
      mean_(weights.buffer("emb_mean", {shape.latent})),
      transformer_(pool, weights, "decoder_transformer.", shape.transformer),
      seanet_(pool, weights, "decoder.", shape.seanet, Seanet::Half::kDecoder) {
  WeightMap projection;
  TensorView view = weights.get("quantizer.output_proj.weight", {shape.outer, shape.latent, 1});
  view.shape = {shape.outer, shape.latent};
  projection.add("project.weight", view);
  project_ = Linear(pool, projection, "project", shape.latent, shape.outer);
  if (shape.resample == 1) return;
  const int channels = shape.seanet.dimension, taps = 2 * shape.resample;
  check(shape.outer % channels == 0, "the upsampling takes ", shape.outer, " channels, which is not a multiple of ",
        channels);
  const Buffer weight = weights.buffer("upsample.convtr.convtr.weight", {shape.outer, 1, taps});
  depthwise_ = shape.outer == channels;
  if (depthwise_) {
    stencil_ = DepthwiseUpsample(channels, shape.resample, weight);
  } else {
    // Grouped with several inputs per output, which no released model has: zeros between the groups.
    const int group = shape.outer / channels;
    Buffer dense(static_cast<std::size_t>(shape.outer) * channels * taps);
    for (int i = 0; i < shape.outer; ++i)
      std::memcpy(dense.data() + (static_cast<std::size_t>(i) * channels + i / group) * taps,
                  weight.data() + static_cast<std::size_t>(i) * taps, taps * sizeof(float));
    dense_ = ConvTranspose1d(pool, {shape.outer, channels, taps, shape.resample}, dense, Buffer());
  }
}

CodecState CodecDecoder::new_state() const {
  CodecState state;
  if (shape_.resample != 1) state.upsample = depthwise_ ? stencil_.new_state() : dense_.new_state();
  state.transformer = transformer_.new_state();
  state.seanet = seanet_.new_state();
  return state;
}

void CodecDecoder::step(const Context& context, const float* latents, const Ragged& rows, CodecState* const* states,
                        float* pcm) const {
  const int total = rows.total(), latent = shape_.latent, channels = shape_.seanet.dimension;
  if (total == 0) return;
  float* scaled = context.scratch.floats(static_cast<std::size_t>(total) * latent);
  for (int i = 0; i < total * latent; ++i) scaled[i] = latents[i] * std_[i % latent] + mean_[i % latent];
  float* projected = context.scratch.floats(static_cast<std::size_t>(total) * shape_.outer);
  project_.apply(context, scaled, total, projected);

  float* x = projected;
  const Ragged fast{scaled_counts(context, rows, shape_.resample), rows.streams};
  if (shape_.resample != 1) {
    x = context.scratch.floats(static_cast<std::size_t>(total) * shape_.resample * channels);
    auto** up = parts<ConvTransposeState>(context, states, rows.streams, [](CodecState& s) { return &s.upsample; });
    if (depthwise_) {
      stencil_.step(context.kernels, projected, rows.counts, rows.streams, up, x);
    } else {
      dense_.step(context.kernels, context.pool, context.scratch, Activation::kNone, projected, rows.counts,
                  rows.streams, up, x);
    }
  }
  float* y = context.scratch.floats(static_cast<std::size_t>(total) * shape_.resample * shape_.transformer.output);
  transformer_.step(
      context, x, fast,
      parts<TransformerState>(context, states, rows.streams, [](CodecState& s) { return &s.transformer; }), y);
  seanet_.step(context, y, fast,
               parts<SeanetState>(context, states, rows.streams, [](CodecState& s) { return &s.seanet; }), pcm);
}

CodecEncoder::CodecEncoder(Pool& pool, const WeightMap& weights, const CodecShape& shape)
    : shape_(shape),
      seanet_(pool, weights, "encoder.", shape.seanet, Seanet::Half::kEncoder),
      transformer_(pool, weights, "encoder_transformer.", shape.transformer) {
  if (shape.resample == 1) return;
  const Conv1dShape down{shape.seanet.dimension, shape.latent, 2 * shape.resample, shape.resample, 1,
                         Padding::kReplicate};
  downsample_ =
      Conv1d(pool, down, weights.buffer("downsample.conv.conv.weight", {down.out, down.in, down.kernel}), Buffer());
}

CodecState CodecEncoder::new_state() const {
  CodecState state;
  if (shape_.resample != 1) state.downsample = downsample_.new_state();
  state.transformer = transformer_.new_state();
  state.seanet = seanet_.new_state();
  return state;
}

void CodecEncoder::step(const Context& context, const float* pcm, const Ragged& rows, CodecState* const* states,
                        float* latents) const {
  const int total = rows.total();
  if (total == 0) return;
  const Ragged samples{scaled_counts(context, rows, samples_per_latent()), rows.streams};
  const Ragged fast{scaled_counts(context, rows, shape_.resample), rows.streams};
  float* x = context.scratch.floats(static_cast<std::size_t>(total) * shape_.resample * shape_.seanet.dimension);
  seanet_.step(context, pcm, samples,
               parts<SeanetState>(context, states, rows.streams, [](CodecState& s) { return &s.seanet; }), x);
  float* y =
      shape_.resample == 1
          ? latents
          : context.scratch.floats(static_cast<std::size_t>(total) * shape_.resample * shape_.transformer.output);
  transformer_.step(
      context, x, fast,
      parts<TransformerState>(context, states, rows.streams, [](CodecState& s) { return &s.transformer; }), y);
  if (shape_.resample == 1) return;
  downsample_.step(context.kernels, context.pool, context.scratch, y, fast.counts, rows.streams,
                   parts<Conv1dState>(context, states, rows.streams, [](CodecState& s) { return &s.downsample; }),
                   latents, Conv1d::Fused());
}

}  // namespace ptts
