// Shapes as the Python stages write them.
#pragma once

#include "bindings/common.h"
#include "blocks/transformer.h"

namespace ptts::bindings {

inline TransformerShape transformer_shape(const py::dict& shape) {
  TransformerShape out;
  out.input = field<int>(shape, "input");
  out.model = field<int>(shape, "model");
  out.output = field<int>(shape, "output");
  out.layers = field<int>(shape, "layers");
  out.heads = field<int>(shape, "heads");
  out.kv_heads = field<int>(shape, "kv_heads");
  out.attention_dim = field<int>(shape, "attention_dim");
  out.feedforward = field<int>(shape, "feedforward");
  out.window = field<int>(shape, "window");
  out.max_period = field<float>(shape, "max_period");
  out.layer_scale = field<bool>(shape, "layer_scale");
  return out;
}

}  // namespace ptts::bindings
