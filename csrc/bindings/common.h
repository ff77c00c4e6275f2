// Shared by the binding files: array types, checks, and the guard against using one state twice at once.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/parallel.h"
#include "base/scratch.h"
#include "blocks/context.h"
#include "blocks/weights.h"
#include "isa/dispatch.h"

namespace ptts::bindings {

namespace py = pybind11;

using Floats = py::array_t<float, py::array::c_style>;  // never cast silently: see as_floats
using Ints = py::array_t<int, py::array::c_style | py::array::forcecast>;

// The array itself when it is contiguous float32; otherwise ValueError, because a hidden copy is a hidden cost.
Floats as_floats(const py::handle& value, const char* what, int dimensions);
Floats new_floats(const std::vector<py::ssize_t>& shape);

// name -> (bytes, dtype, shape): bytes a contiguous uint8 array, dtype "F32", "F16" or "BF16".
WeightMap as_weights(const py::dict& tensors);

template <typename T>
T field(const py::dict& shape, const char* name) {
  check(shape.contains(name), "shape field '", name, "' is missing");
  return shape[name].cast<T>();
}

// "float32", "int8" or "bf16".
Precision precision(const std::string& name);

// What a stage object keeps beside its block.
struct Runtime {
  std::shared_ptr<Pool> pool;
  const KernelTable* kernels;
  std::unique_ptr<ArenaPool> arenas = std::make_unique<ArenaPool>();
};

// One stage call: counts as a computing thread, owns scratch, runs without the GIL.
template <typename Call>
void run_stage(const Runtime& runtime, Call&& call) {
  const py::gil_scoped_release release;
  const Pool::Caller caller(*runtime.pool);
  Scratch scratch(*runtime.arenas);
  call(Context{*runtime.kernels, *runtime.pool, scratch});
}

// State of a stream plus the flag that turns a data race into an error.
template <typename State>
struct Guarded {
  State state;
  std::atomic<bool> busy{false};
  explicit Guarded(State s) : state(std::move(s)) {}
};

template <typename State>
class Claim {
 public:
  explicit Claim(const std::vector<std::shared_ptr<Guarded<State>>>& owners) : owners_(owners) {
    for (; taken_ < owners_.size(); ++taken_) {
      if (!owners_[taken_]) {
        release();
        fail("a state in the list is None, expected the state objects this stage made");
      }
      if (owners_[taken_]->busy.exchange(true)) {
        release();
        throw std::runtime_error("a state is already in use by another call: one state, one stream at a time");
      }
      states_.push_back(&owners_[taken_]->state);
    }
  }
  ~Claim() { release(); }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  State* const* states() const { return states_.data(); }
  int size() const { return static_cast<int>(states_.size()); }

 private:
  void release() {
    for (std::size_t i = 0; i < taken_; ++i) owners_[i]->busy.store(false);
    taken_ = 0;
  }
  const std::vector<std::shared_ptr<Guarded<State>>>& owners_;
  std::size_t taken_ = 0;
  std::vector<State*> states_;
};

void bind_runtime(py::module_& module);
void bind_kernels(py::module_& module);
void bind_backbone(py::module_& module);
void bind_codec(py::module_& module);

}  // namespace ptts::bindings
