#include "blocks/codec.h"

#include <algorithm>

#include "bindings/stages.h"

namespace ptts::bindings {
namespace {

using State = Guarded<CodecState>;
using States = std::vector<std::shared_ptr<State>>;

template <typename Block>
struct Stage {
  Runtime runtime;
  Block block;
};

SeanetShape seanet_shape(const py::dict& shape) {
  SeanetShape out;
  out.dimension = field<int>(shape, "dimension");
  out.channels = field<int>(shape, "channels");
  out.filters = field<int>(shape, "filters");
  out.residual_layers = field<int>(shape, "residual_layers");
  out.ratios = field<std::vector<int>>(shape, "ratios");
  out.kernel = field<int>(shape, "kernel");
  out.residual_kernel = field<int>(shape, "residual_kernel");
  out.last_kernel = field<int>(shape, "last_kernel");
  out.dilation_base = field<int>(shape, "dilation_base");
  out.compress = field<int>(shape, "compress");
  out.padding = field<bool>(shape, "replicate") ? Padding::kReplicate : Padding::kZero;
  return out;
}

template <typename Block>
std::shared_ptr<Stage<Block>> make(std::shared_ptr<Pool> pool, const py::dict& tensors, const py::dict& shape) {
  CodecShape out;
  out.seanet = seanet_shape(field<py::dict>(shape, "seanet"));
  out.transformer = transformer_shape(field<py::dict>(shape, "transformer"));
  out.seanet.precision = out.transformer.precision = precision(field<std::string>(shape, "precision"));
  out.resample = field<int>(shape, "resample");
  out.latent = field<int>(shape, "latent");
  out.outer = field<int>(shape, "outer");
  Runtime runtime{pool, &active_kernels()};
  const WeightMap weights = as_weights(tensors);
  const py::gil_scoped_release release;
  const Pool::Caller caller(*pool);
  return std::make_shared<Stage<Block>>(Stage<Block>{std::move(runtime), Block(*pool, weights, out)});
}

// Inputs [rows, width] per stream, joined; one output array per stream.
template <typename Block, typename Shape>
std::vector<Floats> step(const Stage<Block>& stage, const States& states, const std::vector<py::array>& inputs,
                         int in_width, const char* what, Shape out_shape) {
  check(states.size() == inputs.size(), "got ", states.size(), " states and ", inputs.size(), " inputs");
  std::vector<Floats> checked, outputs;
  std::vector<int> counts;
  int total = 0;
  for (const py::array& input : inputs) {
    checked.push_back(as_floats(input, what, 2));
    check(checked.back().shape(1) == in_width, what, " must be ", in_width, " wide, got ", checked.back().shape(1));
    counts.push_back(static_cast<int>(checked.back().shape(0)));
    total += counts.back();
    outputs.push_back(new_floats(out_shape(counts.back())));
  }
  const std::size_t out_width = total == 0 ? 0 : [&] {
    std::size_t floats = 0;
    for (const Floats& output : outputs) floats += static_cast<std::size_t>(output.size());
    return floats / total;
  }();
  const bool alone = inputs.size() == 1;
  std::vector<const float*> in_at;
  std::vector<float*> out_at;
  for (std::size_t i = 0; i < checked.size(); ++i) {
    in_at.push_back(checked[i].data());
    out_at.push_back(outputs[i].mutable_data());
  }
  const Claim<CodecState> claim(states);
  run_stage(stage.runtime, [&](const Context& context) {
    const Ragged rows{counts.data(), claim.size()};
    if (alone) {
      stage.block.step(context, in_at[0], rows, claim.states(), out_at[0]);
      return;
    }
    float* in = context.scratch.floats(static_cast<std::size_t>(total) * in_width);
    float* out = context.scratch.floats(total * out_width);
    std::size_t at = 0;
    for (std::size_t i = 0; i < in_at.size(); at += counts[i++])
      std::copy(in_at[i], in_at[i] + static_cast<std::size_t>(counts[i]) * in_width, in + at * in_width);
    stage.block.step(context, in, rows, claim.states(), out);
    at = 0;
    for (std::size_t i = 0; i < out_at.size(); at += counts[i++])
      std::copy(out + at * out_width, out + (at + counts[i]) * out_width, out_at[i]);
  });
  return outputs;
}

template <typename Block>
py::class_<Stage<Block>, std::shared_ptr<Stage<Block>>> bind_stage(py::module_& module, const char* name,
                                                                   const char* doc) {
  return py::class_<Stage<Block>, std::shared_ptr<Stage<Block>>>(module, name, doc)
      .def(py::init(&make<Block>), py::arg("pool"), py::arg("tensors"), py::arg("shape"))
      .def("new_state", [](const Stage<Block>& stage) { return std::make_shared<State>(stage.block.new_state()); })
      .def_property_readonly("latent", [](const Stage<Block>& stage) { return stage.block.latent(); })
      .def_property_readonly("samples_per_latent",
                             [](const Stage<Block>& stage) { return stage.block.samples_per_latent(); });
}

}  // namespace

void bind_codec(py::module_& module) {
  py::class_<State, std::shared_ptr<State>>(module, "CodecState", "Everything that moves in one codec stream.")
      .def("copy", [](const std::shared_ptr<State>& s) {
        const States one{s};
        const Claim<CodecState> claim(one);
        return std::make_shared<State>(s->state.copy());
      });
  bind_stage<CodecDecoder>(module, "CodecDecoder", "Latents to samples: see csrc/blocks/codec.h.")
      .def(
          "step",
          [](const Stage<CodecDecoder>& stage, const States& states, const std::vector<py::array>& latents) {
            const int samples = stage.block.samples_per_latent();
            return step(stage, states, latents, stage.block.latent(), "latents", [samples](int rows) {
              return std::vector<py::ssize_t>{static_cast<py::ssize_t>(rows) * samples};
            });
          },
          py::arg("states"), py::arg("latents"),
          "latents: list of float32 [frames, latent] -> list of float32 [samples].");
  bind_stage<CodecEncoder>(module, "CodecEncoder", "Samples to latents: see csrc/blocks/codec.h.")
      .def(
          "step",
          [](const Stage<CodecEncoder>& stage, const States& states, const std::vector<py::array>& pcm) {
            const int latent = stage.block.latent();
            return step(stage, states, pcm, stage.block.samples_per_latent(), "pcm",
                        [latent](int rows) { return std::vector<py::ssize_t>{rows, latent}; });
          },
          py::arg("states"), py::arg("pcm"),
          "pcm: list of float32 [frames, samples_per_latent] -> list of float32 [frames, latent].");
}

}  // namespace ptts::bindings
