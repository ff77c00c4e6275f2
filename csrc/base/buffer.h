// Aligned float storage for weights, caches and scratch.
//
// Alignment: 64 bytes, or 2 MiB with a transparent-huge-page hint from 1 MiB up (streaming weights
// through 4 KiB pages cost about 20 % of one core's memory bandwidth).
// Contents start as zeros, so padding lanes are finite; `undefined` leaves pages untouched until used.
#pragma once

#include <cstddef>

namespace ptts {

class Buffer {
 public:
  enum class Fill { kZeros, kUndefined };

  Buffer() = default;
  explicit Buffer(std::size_t count, Fill fill = Fill::kZeros);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  // A deep copy: copying state is always an explicit call.
  Buffer copy() const;

  float* data() { return data_; }
  const float* data() const { return data_; }
  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  float& operator[](std::size_t i) { return data_[i]; }
  const float& operator[](std::size_t i) const { return data_[i]; }

 private:
  float* data_ = nullptr;
  std::size_t count_ = 0;
};

}  // namespace ptts
