// Named tensors handed to block constructors: views of memory the caller keeps alive until the
// constructor returns. Blocks pack what they need and keep nothing of the view.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/parallel.h"
#include "kernels/gemm.h"

namespace ptts {

enum class DType { kF32, kF16, kBF16 };

struct TensorView {
  const unsigned char* data = nullptr;  // need not be aligned
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;

  std::size_t count() const;
  // Converts values [start, start + n) to float32.
  void read(std::size_t start, std::size_t n, float* out) const;
  Buffer to_buffer() const;
};

class WeightMap {
 public:
  void add(const std::string& name, TensorView view) { tensors_[name] = std::move(view); }
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  // Throws naming the tensor, and both shapes when they differ.
  const TensorView& get(const std::string& name, const std::vector<std::int64_t>& shape) const;
  Buffer buffer(const std::string& name, const std::vector<std::int64_t>& shape) const {
    return get(name, shape).to_buffer();
  }

 private:
  std::map<std::string, TensorView> tensors_;
};

}  // namespace ptts
