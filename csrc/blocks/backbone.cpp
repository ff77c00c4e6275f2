#include "blocks/backbone.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "base/check.h"

namespace ptts {

Backbone::Backbone(Pool& pool, const WeightMap& weights, const BackboneShape& shape)
    : shape_(shape), transformer_(pool, weights, "", shape.transformer), flow_(pool, weights, "flow_net.", shape.flow) {
  const int d = shape.transformer.model, latent = shape.flow.latent;
  const int rank = shape.table_rank > 0 ? shape.table_rank : d;
  table_ = weights.buffer("conditioner.embed.weight", {shape.vocabulary, rank});
  if (shape.table_rank > 0) table_proj_ = Linear(pool, weights, "conditioner.proj", rank, d);
  start_latent_ = weights.buffer("bos_emb", {latent});
  input_ = Linear(pool, weights, "input_linear", latent, d);
  norm_weight_ = weights.buffer("out_norm.weight", {d});
  norm_bias_ = weights.buffer("out_norm.bias", {d});
  if (shape.condition != d) condition_proj_ = Linear(pool, weights, "z_proj", d, shape.condition);
  end_weight_ = weights.buffer("out_eos.weight", {1, shape.condition});
  end_bias_ = weights.buffer("out_eos.bias", {1})[0];
  const TensorView& projection = weights.get("speaker_proj_weight", {d, shape.prompt});
  WeightMap renamed;
  renamed.add("prompt.weight", projection);
  prompt_proj_ = Linear(pool, renamed, "prompt", shape.prompt, d);
  if (shape.prompt_start) prompt_start_ = weights.buffer("bos_before_voice", {1, 1, d});
}

void Backbone::prefill_text(const Context& context, const int* ids, const Ragged& rows,
                            TransformerState* const* states) const {
  const int total = rows.total(), d = shape_.transformer.model;
  const int rank = shape_.table_rank > 0 ? shape_.table_rank : d;
  float* x = context.scratch.floats(static_cast<std::size_t>(total) * d);
  float* looked_up = table_proj_.empty() ? x : context.scratch.floats(static_cast<std::size_t>(total) * rank);
  for (int r = 0; r < total; ++r)
    std::memcpy(looked_up + static_cast<std::size_t>(r) * rank, table_.data() + static_cast<std::size_t>(ids[r]) * rank,
                rank * sizeof(float));
  if (!table_proj_.empty()) table_proj_.apply(context, looked_up, total, x);
  transformer_.step(context, x, rows, states, x);
}

void Backbone::prefill_prompt(const Context& context, const float* latents, const Ragged& rows, bool with_start,
                              TransformerState* const* states) const {
  check(!with_start || shape_.prompt_start, "this model has no start row for prompts");
  const int d = shape_.transformer.model, start = with_start ? 1 : 0;
  int* counts = context.scratch.of<int>(static_cast<std::size_t>(rows.streams));
  float* x = context.scratch.floats(static_cast<std::size_t>(rows.total() + start * rows.streams) * d);
  float* at = x;
  for (int s = 0; s < rows.streams; ++s) {
    counts[s] = rows.counts[s] + start;
    if (start) std::memcpy(at, prompt_start_.data(), d * sizeof(float));
    at += static_cast<std::size_t>(start) * d;
    prompt_proj_.apply(context, latents, rows.counts[s], at);
    latents += static_cast<std::size_t>(rows.counts[s]) * shape_.prompt;
    at += static_cast<std::size_t>(rows.counts[s]) * d;
  }
  transformer_.step(context, x, {counts, rows.streams}, states, x);
}

void Backbone::step(const Context& context, const float* latents, const float* noise, int streams,
                    TransformerState* const* states, float* out, float* end) const {
  const int d = shape_.transformer.model, latent = shape_.flow.latent, condition = shape_.condition;
  float* fed = context.scratch.floats(static_cast<std::size_t>(streams) * latent);
  for (int i = 0; i < streams * latent; ++i) fed[i] = std::isnan(latents[i]) ? start_latent_[i % latent] : latents[i];
  float* x = context.scratch.floats(static_cast<std::size_t>(streams) * d);
  int* ones = context.scratch.of<int>(static_cast<std::size_t>(streams));
  for (int s = 0; s < streams; ++s) ones[s] = 1;
  input_.apply(context, fed, streams, x);
  transformer_.step(context, x, {ones, streams}, states, x);
  layer_norm(context, x, streams, d, 1e-5f, norm_weight_, norm_bias_, x);
  float* read = x;
  if (!condition_proj_.empty()) {
    read = context.scratch.floats(static_cast<std::size_t>(streams) * condition);
    condition_proj_.apply(context, x, streams, read);
  }
  for (int s = 0; s < streams; ++s) {
    // One dot product in double: the decision to stop hangs on it.
    double sum = end_bias_;
    for (int i = 0; i < condition; ++i)
      sum += static_cast<double>(read[static_cast<std::size_t>(s) * condition + i]) * end_weight_[i];
    end[s] = static_cast<float>(sum);
  }
  flow_.sample(context, read, noise, streams, out);
}

}  // namespace ptts
