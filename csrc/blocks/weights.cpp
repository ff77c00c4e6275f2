#include "blocks/weights.h"

#include <cstring>
#include <sstream>

#include "base/check.h"

namespace ptts {
namespace {

float from_bits(std::uint32_t bits) {
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const std::uint32_t exponent = (h >> 10) & 0x1fu, mantissa = h & 0x3ffu;
  if (exponent == 0x1f) return from_bits(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return from_bits(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;  // 2^-24
  return sign ? -magnitude : magnitude;
}

std::string text(const std::vector<std::int64_t>& shape) {
  std::ostringstream out;
  out << '[';
  for (std::size_t i = 0; i < shape.size(); ++i) out << (i ? ", " : "") << shape[i];
  out << ']';
  return out.str();
}

}  // namespace

std::size_t TensorView::count() const {
  std::size_t n = 1;
  for (const std::int64_t size : shape) n *= static_cast<std::size_t>(size);
  return n;
}

void TensorView::read(std::size_t start, std::size_t n, float* out) const {
  if (dtype == DType::kF32) {
    std::memcpy(out, data + start * 4, n * 4);
    return;
  }
  for (std::size_t i = 0; i < n; ++i) {
    std::uint16_t raw;
    std::memcpy(&raw, data + (start + i) * 2, 2);
    out[i] = dtype == DType::kBF16 ? from_bits(static_cast<std::uint32_t>(raw) << 16) : half_to_float(raw);
  }
}

Buffer TensorView::to_buffer() const {
  Buffer out(count());
  read(0, count(), out.data());
  return out;
}

const TensorView& WeightMap::get(const std::string& name, const std::vector<std::int64_t>& shape) const {
  const auto found = tensors_.find(name);
  check(found != tensors_.end(), "tensor '", name, "' is missing, expected shape ", text(shape));
  check(found->second.shape == shape, "tensor '", name, "' has shape ", text(found->second.shape), ", expected ",
        text(shape));
  return found->second;
}

}  // namespace ptts
