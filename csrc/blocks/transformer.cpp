#include "blocks/transformer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace ptts {
namespace {
constexpr float kNormEps = 1e-5f;
}

void layer_norm(const Context& context, const float* x, int rows, int n, float eps, const Buffer& weight,
                const Buffer& bias, float* y) {
  parallel_for(context.pool, rows, 4.0 * rows * n, [&](int r) {
    const std::size_t at = static_cast<std::size_t>(r) * n;
    context.kernels.layer_norm(x + at, y + at, n, eps, weight.data(), bias.data(), nullptr, nullptr);
  });
}

TransformerState TransformerState::copy() const {
  TransformerState out;
  out.layers.reserve(layers.size());
  for (const KvCache& cache : layers) out.layers.push_back(cache.copy());
  return out;
}

Transformer::Transformer(Pool& pool, const WeightMap& weights, const std::string& prefix, const TransformerShape& shape)
    : shape_(shape) {
  check(shape.heads > 0 && shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0 &&
            shape.attention_dim % shape.heads == 0 && shape.attention_dim / shape.heads % 2 == 0,
        "attention of width ", shape.attention_dim, " cannot have ", shape.heads, " heads with ", shape.kv_heads,
        " key/value heads");
  const int d = shape.model, head_dim = shape.attention_dim / shape.heads, kv = shape.kv_heads * head_dim;
  // Rounded where torch rounds: float32 exponent, then float32 exp.
  const float slope = static_cast<float>(-std::log(static_cast<double>(shape.max_period)) * 2 / head_dim);
  for (int i = 0; i < head_dim / 2; ++i)
    frequencies_.push_back(static_cast<float>(std::exp(static_cast<double>(static_cast<float>(i) * slope))));
  if (shape.input != d) input_proj_ = Linear(pool, weights, prefix + "input_proj", shape.input, d, shape.precision);
  if (shape.output != d)
    output_proj_ = Linear(pool, weights, prefix + "output_projs.0", d, shape.output, shape.precision);
  for (int i = 0; i < shape.layers; ++i) {
    const std::string name = prefix + "transformer.layers." + std::to_string(i) + ".";
    Layer layer;
    layer.norm1_weight = weights.buffer(name + "norm1.weight", {d});
    layer.norm1_bias = weights.buffer(name + "norm1.bias", {d});
    layer.norm2_weight = weights.buffer(name + "norm2.weight", {d});
    layer.norm2_bias = weights.buffer(name + "norm2.bias", {d});
    layer.in_proj = Linear(pool, weights, name + "self_attn.in_proj", d, shape.attention_dim + 2 * kv, shape.precision);
    layer.out_proj = Linear(pool, weights, name + "self_attn.out_proj", shape.attention_dim, d, shape.precision);
    layer.linear1 = Linear(pool, weights, name + "linear1", d, shape.feedforward, shape.precision);
    layer.linear2 = Linear(pool, weights, name + "linear2", shape.feedforward, d, shape.precision);
    if (shape.layer_scale) {
      layer.scale1 = weights.buffer(name + "layer_scale_1.scale", {d});
      layer.scale2 = weights.buffer(name + "layer_scale_2.scale", {d});
    }
    layers_.push_back(std::move(layer));
  }
}

TransformerState Transformer::new_state(int capacity) const {
  TransformerState state;
  for (int i = 0; i < shape_.layers; ++i) {
    state.layers.emplace_back(shape_.kv_heads, shape_.attention_dim / shape_.heads, shape_.window);
    state.layers.back().reserve(capacity);
  }
  return state;
}

void Transformer::attend(const Context& context, const Layer& layer, int index, const Ragged& rows, const float* cosine,
                         const float* sine, TransformerState* const* states, float* x) const {
  const Scratch::Mark mark(context.scratch);
  const int total = rows.total(), d = shape_.model, heads = shape_.heads, kv_heads = shape_.kv_heads;
  const int width = shape_.attention_dim, head_dim = width / heads, kv = kv_heads * head_dim;
  const int qkv_width = width + 2 * kv;
  float* h = context.scratch.floats(static_cast<std::size_t>(total) * d);
  float* qkv = context.scratch.floats(static_cast<std::size_t>(total) * qkv_width);
  layer_norm(context, x, total, d, kNormEps, layer.norm1_weight, layer.norm1_bias, h);
  layer.in_proj.apply(context, h, total, qkv);

  // Caches first: every query of this call may see every earlier row of its stream.
  int longest = 0;
  float* row = qkv;
  for (int s = 0; s < rows.streams; ++s) {
    KvCache& cache = states[s]->layers[index];
    cache.reserve(rows.counts[s]);
    longest = std::max(longest, cache.slot() + rows.counts[s]);
    for (int r = 0; r < rows.counts[s]; ++r, row += qkv_width) {
      context.kernels.rope(row, heads, head_dim, cosine, sine);
      context.kernels.rope(row + width, kv_heads, head_dim, cosine, sine);
      cosine += head_dim / 2;
      sine += head_dim / 2;
      cache.append(row + width, row + width + kv);
    }
  }

  // A task is some queries of one head of one stream; the output overwrites the queries it came from.
  constexpr int kQueries = 4 * kAttentionTile;
  struct Task {
    int stream, head, query, queries;
    float* rows;
  };
  int task_count = 0;
  for (int s = 0; s < rows.streams; ++s) task_count += (rows.counts[s] + kQueries - 1) / kQueries * heads;
  Task* tasks = context.scratch.of<Task>(static_cast<std::size_t>(task_count));
  // A tile keeps the scores of what its queries see, which a window bounds.
  const int seen = shape_.window > 0 ? std::min(longest, shape_.window + kAttentionTile) : longest;
  const std::size_t scores_size = static_cast<std::size_t>(kAttentionTile) * ((seen + kQueries + 31) / 16 * 16);
  float* scores = context.scratch.floats(scores_size * task_count);
  double work = 0;
  int n = 0;
  row = qkv;
  for (int s = 0; s < rows.streams; ++s) {
    for (int q = 0; q < rows.counts[s]; q += kQueries)
      for (int head = 0; head < heads; ++head) tasks[n++] = {s, head, q, std::min(kQueries, rows.counts[s] - q), row};
    row += static_cast<std::size_t>(rows.counts[s]) * qkv_width;
    const int keys = states[s]->layers[index].slot();
    work += 4.0 * rows.counts[s] * width * (shape_.window > 0 ? std::min(keys, shape_.window) : keys);
  }
  parallel_for(context.pool, task_count, work, [&](int i) {
    const Task& task = tasks[i];
    const KvCache& cache = states[task.stream]->layers[index];
    const int kv_head = task.head / (heads / kv_heads);
    float* q = task.rows + static_cast<std::size_t>(task.query) * qkv_width + task.head * head_dim;
    AttentionHead job;
    job.q = q;
    job.ldq = qkv_width;
    job.out = q;
    job.ldo = qkv_width;
    job.keys = cache.keys(kv_head);
    job.values = cache.values(kv_head);
    job.head_dim = head_dim;
    job.queries = task.queries;
    job.last = cache.slot() - rows.counts[task.stream] + task.query;
    job.window = shape_.window;
    job.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    job.scores = scores + scores_size * i;
    context.kernels.attention(&job);
  });

  // The attention output sits in the query columns of qkv.
  float* joined = context.scratch.floats(static_cast<std::size_t>(total) * width);
  for (int r = 0; r < total; ++r)
    std::memcpy(joined + static_cast<std::size_t>(r) * width, qkv + static_cast<std::size_t>(r) * qkv_width,
                width * sizeof(float));
  layer.out_proj.apply(context, joined, total, x,
                       {Activation::kNone, layer.scale1.empty() ? nullptr : layer.scale1.data(), x});
}

void Transformer::step(const Context& context, const float* x, const Ragged& rows, TransformerState* const* states,
                       float* y) const {
  const Scratch::Mark mark(context.scratch);
  const int total = rows.total(), d = shape_.model;
  if (total == 0) return;
  const std::size_t half = frequencies_.size();
  float* cosine = context.scratch.floats(total * half);
  float* sine = context.scratch.floats(total * half);
  std::size_t at = 0;
  for (int s = 0; s < rows.streams; ++s) {
    const int start = states[s]->position();
    for (int r = 0; r < rows.counts[s]; ++r) {
      for (const float frequency : frequencies_) {
        const float angle = frequency * static_cast<float>(start + r);
        cosine[at] = static_cast<float>(std::cos(static_cast<double>(angle)));
        sine[at++] = static_cast<float>(std::sin(static_cast<double>(angle)));
      }
    }
  }

  float* hidden = output_proj_.empty() ? y : context.scratch.floats(static_cast<std::size_t>(total) * d);
  if (!input_proj_.empty()) {
    input_proj_.apply(context, x, total, hidden);
  } else if (hidden != x) {
    std::memcpy(hidden, x, static_cast<std::size_t>(total) * d * sizeof(float));
  }
  float* h = context.scratch.floats(static_cast<std::size_t>(total) * d);
  float* wide = context.scratch.floats(static_cast<std::size_t>(total) * shape_.feedforward);
  for (int i = 0; i < shape_.layers; ++i) {
    const Layer& layer = layers_[i];
    attend(context, layer, i, rows, cosine, sine, states, hidden);
    layer_norm(context, hidden, total, d, kNormEps, layer.norm2_weight, layer.norm2_bias, h);
    layer.linear1.apply(context, h, total, wide, {Activation::kGeluTanh, nullptr, nullptr});
    layer.linear2.apply(context, wide, total, hidden,
                        {Activation::kNone, layer.scale2.empty() ? nullptr : layer.scale2.data(), hidden});
  }
  if (!output_proj_.empty()) output_proj_.apply(context, hidden, total, y);
}

}  // namespace ptts
