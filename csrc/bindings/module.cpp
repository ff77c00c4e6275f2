// pockettts_fast._core: registers one file per block or kernel family.
#include "bindings/common.h"

namespace ptts::bindings {

Floats as_floats(const py::handle& value, const char* what, int dimensions) {
  check(py::isinstance<Floats>(value), what, " must be a C-contiguous float32 array");
  Floats out = py::reinterpret_borrow<Floats>(value);
  check(out.ndim() == dimensions, what, " must have ", dimensions, " dimensions, got ", out.ndim());
  return out;
}

Floats new_floats(const std::vector<py::ssize_t>& shape) { return Floats(shape); }

Precision precision(const std::string& name) {
  if (name == "float32") return Precision::kFloat32;
  if (name == "int8") return Precision::kInt8;
  check(name == "bf16", "unknown precision '", name, "'");
  return Precision::kBFloat16;
}

WeightMap as_weights(const py::dict& tensors) {
  WeightMap out;
  for (const auto& item : tensors) {
    const std::string name = item.first.cast<std::string>();
    const py::tuple parts = item.second.cast<py::tuple>();
    const auto bytes = parts[0].cast<py::array_t<unsigned char, py::array::c_style>>();
    const std::string dtype = parts[1].cast<std::string>();
    TensorView view;
    view.data = bytes.data();
    check(dtype == "F32" || dtype == "F16" || dtype == "BF16", "tensor '", name, "' has dtype ", dtype,
          ", expected F32, F16 or BF16");
    view.dtype = dtype == "F32" ? DType::kF32 : dtype == "F16" ? DType::kF16 : DType::kBF16;
    view.shape = parts[2].cast<std::vector<std::int64_t>>();
    const std::size_t size = dtype == "F32" ? 4 : 2;
    check(static_cast<std::size_t>(bytes.size()) == view.count() * size, "tensor '", name, "' holds ", bytes.size(),
          " bytes, expected ", view.count() * size);
    out.add(name, view);
  }
  return out;
}

}  // namespace ptts::bindings

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  module.doc() = "Kernels, blocks and stages of pockettts_fast.";
  ptts::bindings::bind_runtime(module);
  ptts::bindings::bind_kernels(module);
  ptts::bindings::bind_backbone(module);
  ptts::bindings::bind_codec(module);
}
