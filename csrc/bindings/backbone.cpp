#include "blocks/backbone.h"

#include "bindings/stages.h"

namespace ptts::bindings {
namespace {

using State = Guarded<TransformerState>;
using States = std::vector<std::shared_ptr<State>>;

struct Stage {
  Runtime runtime;
  Backbone block;
};

FlowType flow_type(const std::string& name) {
  if (name == "lsd") return FlowType::kLsd;
  if (name == "flow_matching") return FlowType::kFlowMatching;
  if (name == "drifting") return FlowType::kDrifting;
  check(name == "pointwise", "unknown flow type '", name, "'");
  return FlowType::kPointwise;
}

std::shared_ptr<Stage> make(std::shared_ptr<Pool> pool, const py::dict& tensors, const py::dict& shape) {
  BackboneShape out;
  out.transformer = transformer_shape(field<py::dict>(shape, "transformer"));
  out.flow.precision = out.transformer.precision = precision(field<std::string>(shape, "precision"));
  out.flow.latent = field<int>(shape, "latent");
  out.flow.model = field<int>(shape, "flow_dim");
  out.flow.depth = field<int>(shape, "flow_depth");
  out.flow.type = flow_type(field<std::string>(shape, "flow_type"));
  out.flow.steps = field<int>(shape, "steps");
  out.condition = out.flow.condition = field<int>(shape, "condition");
  out.vocabulary = field<int>(shape, "vocabulary");
  out.table_rank = field<int>(shape, "table_rank");
  out.prompt = field<int>(shape, "prompt");
  out.prompt_start = field<bool>(shape, "prompt_start");
  Runtime runtime{pool, &active_kernels()};
  const WeightMap weights = as_weights(tensors);
  const py::gil_scoped_release release;
  const Pool::Caller caller(*pool);
  return std::make_shared<Stage>(Stage{std::move(runtime), Backbone(*pool, weights, out)});
}

void prefill_text(const Stage& stage, const States& states, const std::vector<Ints>& ids) {
  check(states.size() == ids.size(), "got ", states.size(), " states and ", ids.size(), " texts");
  std::vector<int> counts, joined;
  for (const Ints& text : ids) {
    counts.push_back(static_cast<int>(text.size()));
    for (py::ssize_t i = 0; i < text.size(); ++i) {
      const int id = text.data()[i];
      check(id >= 0 && id < stage.block.shape().vocabulary, "token id ", id, " is outside the table of ",
            stage.block.shape().vocabulary, " rows");
      joined.push_back(id);
    }
  }
  const Claim<TransformerState> claim(states);
  run_stage(stage.runtime, [&](const Context& context) {
    stage.block.prefill_text(context, joined.data(), {counts.data(), claim.size()}, claim.states());
  });
}

void prefill_prompt(const Stage& stage, const States& states, const std::vector<py::array>& prompts, bool start) {
  check(states.size() == prompts.size(), "got ", states.size(), " states and ", prompts.size(), " prompts");
  std::vector<int> counts;
  std::vector<float> joined;
  for (const py::array& prompt : prompts) {
    const Floats latents = as_floats(prompt, "prompt", 2);
    check(latents.shape(1) == stage.block.shape().prompt, "prompt latents are ", latents.shape(1), " wide, expected ",
          stage.block.shape().prompt);
    counts.push_back(static_cast<int>(latents.shape(0)));
    joined.insert(joined.end(), latents.data(), latents.data() + latents.size());
  }
  const Claim<TransformerState> claim(states);
  run_stage(stage.runtime, [&](const Context& context) {
    stage.block.prefill_prompt(context, joined.data(), {counts.data(), claim.size()}, start, claim.states());
  });
}

py::tuple step(const Stage& stage, const States& states, const py::array& latents, const py::array& noise) {
  const py::ssize_t streams = static_cast<py::ssize_t>(states.size()), width = stage.block.shape().flow.latent;
  const Floats in = as_floats(latents, "latents", 2), draws = as_floats(noise, "noise", 2);
  check(in.shape(0) == streams && in.shape(1) == width && draws.shape(0) == streams && draws.shape(1) == width,
        "latents and noise must be [", streams, ", ", width, "]");
  Floats out = new_floats({streams, width}), end = new_floats({streams});
  const float *in_data = in.data(), *noise_data = draws.data();
  float *out_data = out.mutable_data(), *end_data = end.mutable_data();
  {
    const Claim<TransformerState> claim(states);
    run_stage(stage.runtime, [&](const Context& context) {
      stage.block.step(context, in_data, noise_data, claim.size(), claim.states(), out_data, end_data);
    });
  }
  return py::make_tuple(out, end);
}

// One [2, 1, rows, kv_heads, head_dim] array per layer.
py::list caches(const std::shared_ptr<State>& state) {
  const States one{state};
  const Claim<TransformerState> claim(one);
  py::list out;
  for (const KvCache& cache : state->state.layers) {
    Floats array = new_floats({2, 1, cache.position(), cache.kv_heads(), cache.head_dim()});
    float* data = array.mutable_data();
    cache.export_rows(data, data + array.size() / 2);
    out.append(array);
  }
  return out;
}

// The inverse: the first `length` rows of such arrays become the state of a new stream with room for `capacity`.
std::shared_ptr<State> load_state(const Stage& stage, const std::vector<py::array>& arrays, int length, int capacity) {
  const TransformerShape& shape = stage.block.shape().transformer;
  const int head_dim = shape.attention_dim / shape.heads;
  check(static_cast<int>(arrays.size()) == shape.layers, "got ", arrays.size(), " caches, expected ", shape.layers);
  check(length >= 0 && capacity >= length, "length ", length, " does not fit capacity ", capacity);
  std::vector<Floats> checked;
  for (const py::array& array : arrays) {
    checked.push_back(as_floats(array, "cache", 5));
    const Floats& cache = checked.back();
    check(cache.shape(0) == 2 && cache.shape(1) == 1 && cache.shape(2) >= length && cache.shape(3) == shape.kv_heads &&
              cache.shape(4) == head_dim,
          "a cache must be [2, 1, >= ", length, ", ", shape.kv_heads, ", ", head_dim, "]");
  }
  auto out = std::make_shared<State>(stage.block.new_state(capacity));
  for (std::size_t i = 0; i < checked.size(); ++i) {
    const float* keys = checked[i].data();
    const float* values = keys + checked[i].size() / 2;
    const std::size_t row = static_cast<std::size_t>(shape.kv_heads) * head_dim;
    for (int t = 0; t < length; ++t) out->state.layers[i].append(keys + t * row, values + t * row);
  }
  return out;
}

}  // namespace

void bind_backbone(py::module_& module) {
  py::class_<State, std::shared_ptr<State>>(module, "BackboneState", "Key/value caches of one stream.")
      .def_property_readonly("position", [](const State& s) { return s.state.position(); })
      .def("copy",
           [](const std::shared_ptr<State>& s) {
             const States one{s};
             const Claim<TransformerState> claim(one);
             return std::make_shared<State>(s->state.copy());
           })
      .def("caches", &caches, "One float32 [2, 1, rows, kv_heads, head_dim] array per layer.");
  py::class_<Stage, std::shared_ptr<Stage>>(module, "Backbone", "The autoregressive stage: see csrc/blocks/backbone.h.")
      .def(py::init(&make), py::arg("pool"), py::arg("tensors"), py::arg("shape"))
      .def(
          "new_state",
          [](const Stage& stage, int capacity) { return std::make_shared<State>(stage.block.new_state(capacity)); },
          py::arg("capacity") = 0)
      .def("load_state", &load_state, py::arg("caches"), py::arg("length"), py::arg("capacity"))
      .def("prefill_text", &prefill_text, py::arg("states"), py::arg("ids"))
      .def("prefill_prompt", &prefill_prompt, py::arg("states"), py::arg("prompts"), py::arg("start"))
      .def("step", &step, py::arg("states"), py::arg("latents"), py::arg("noise"),
           "latents, noise: float32 [streams, latent] -> (latents [streams, latent], end logits [streams]).");
}

}  // namespace ptts::bindings
