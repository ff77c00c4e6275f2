// The autoregressive stage: embeds what it is fed, runs the transformer, and reads the two heads.
//
// prefill: rows of embeddings (text ids through the table, or prompt latents through a projection) go into the
// caches. step: one latent per stream in, one latent and one end logit per stream out.
// A NaN component of a fed latent means "beginning" and is replaced by the learned start latent.
// Source: pocket_tts.models.flow_lm, pocket_tts.modules.text_conditioner.
#pragma once

#include "blocks/flow_head.h"
#include "blocks/transformer.h"

namespace ptts {

struct BackboneShape {
  TransformerShape transformer;
  FlowHeadShape flow;
  int vocabulary = 0;         // rows of the table
  int table_rank = 0;         // 0: the table is d wide; else a projection follows
  int condition = 0;          // width the heads read; != d: a projection follows the last norm
  int prompt = 0;             // width of prompt latents
  bool prompt_start = false;  // a learned row stands before the prompt
};

class Backbone {
 public:
  Backbone(Pool& pool, const WeightMap& weights, const BackboneShape& shape);

  const BackboneShape& shape() const { return shape_; }
  TransformerState new_state(int capacity) const { return transformer_.new_state(capacity); }

  // ids: counts[s] token ids per stream, each in [0, vocabulary).
  void prefill_text(const Context& context, const int* ids, const Ragged& rows, TransformerState* const* states) const;
  // latents [total, prompt]; with `start` the learned start row goes in front of each stream's rows.
  void prefill_prompt(const Context& context, const float* latents, const Ragged& rows, bool start,
                      TransformerState* const* states) const;
  // latents, noise: [streams, latent]; out: [streams, latent]; end: [streams].
  void step(const Context& context, const float* latents, const float* noise, int streams,
            TransformerState* const* states, float* out, float* end) const;

 private:
  BackboneShape shape_;
  Transformer transformer_;
  FlowHead flow_;
  Buffer table_, start_latent_, prompt_start_, norm_weight_, norm_bias_, end_weight_;
  float end_bias_ = 0.0f;
  Linear table_proj_, prompt_proj_, input_, condition_proj_;
};

}  // namespace ptts
