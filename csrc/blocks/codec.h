// The codec's two directions as stages.
//
// Decoder: latent * std + mean -> 1x1 projection -> transposed conv (x up) -> transformer -> SEANet decoder -> pcm.
// Encoder: pcm -> SEANet encoder -> transformer -> strided conv (/ up, first row replicated in front) -> latents.
// Source: pocket_tts.models.mimi, .modules.resample, .modules.dummy_quantizer.
#pragma once

#include "blocks/linear.h"
#include "blocks/seanet.h"
#include "blocks/transformer.h"

namespace ptts {

struct CodecShape {
  SeanetShape seanet;
  TransformerShape transformer;
  int resample = 1;  // codec frames of the transformer per latent; 1: no resampling layer
  int latent = 0;    // decoder: width of latents in; encoder: width out
  int outer = 0;     // decoder: width between the 1x1 projection and the upsampling
};

struct CodecState {
  ConvTransposeState upsample;
  Conv1dState downsample;
  TransformerState transformer;
  SeanetState seanet;
  CodecState copy() const;
};

class CodecDecoder {
 public:
  CodecDecoder(Pool& pool, const WeightMap& weights, const CodecShape& shape);
  CodecState new_state() const;
  int latent() const { return shape_.latent; }
  int samples_per_latent() const { return shape_.resample * shape_.seanet.hop(); }
  // latents [total, latent] (normalised) -> pcm [total * samples_per_latent].
  void step(const Context& context, const float* latents, const Ragged& rows, CodecState* const* states,
            float* pcm) const;

 private:
  CodecShape shape_;
  Buffer std_, mean_;
  Linear project_;
  bool depthwise_ = true;
  DepthwiseUpsample stencil_;
  ConvTranspose1d dense_;
  Transformer transformer_;
  Seanet seanet_;
};

class CodecEncoder {
 public:
  CodecEncoder(Pool& pool, const WeightMap& weights, const CodecShape& shape);
  CodecState new_state() const;
  int latent() const { return shape_.latent; }
  int samples_per_latent() const { return shape_.resample * shape_.seanet.hop(); }
  // pcm, samples_per_latent samples per row of each stream -> latents [total, latent].
  void step(const Context& context, const float* pcm, const Ragged& rows, CodecState* const* states,
            float* latents) const;

 private:
  CodecShape shape_;
  Seanet seanet_;
  Transformer transformer_;
  Conv1d downsample_;
};

}  // namespace ptts
