#include "kernels/attention.h"

#include <algorithm>
#include <cstring>

namespace ptts {

KvCache::KvCache(int kv_heads, int head_dim, int window) : kv_heads_(kv_heads), head_dim_(head_dim), window_(window) {}

KvCache KvCache::copy() const {
  KvCache out(kv_heads_, head_dim_, window_);
  out.capacity_ = capacity_;
  out.base_ = base_;
  out.position_ = position_;
  out.keys_ = keys_.copy();
  out.values_ = values_.copy();
  return out;
}

// Re-lays the cache with a new capacity, leaving out the first `drop` slots (a multiple of 16).
void KvCache::move_to(int capacity, int drop) {
  const int used = (slot() - drop + 15) / 16 * 16;
  const std::size_t key_offset = static_cast<std::size_t>(drop) * head_dim_;
  const std::size_t value_offset = static_cast<std::size_t>(drop) * padded_dim();
  const std::size_t key_bytes = static_cast<std::size_t>(used) * head_dim_ * sizeof(float);
  const std::size_t value_bytes = static_cast<std::size_t>(used) * padded_dim() * sizeof(float);
  if (capacity == capacity_) {
    for (int h = 0; h < kv_heads_; ++h) {
      float* k = keys_.data() + h * key_stride();
      float* v = values_.data() + h * value_stride();
      std::memmove(k, k + key_offset, key_bytes);
      std::memmove(v, v + value_offset, value_bytes);
    }
  } else {
    // Slots beyond the last row are masked by selection: room costs no memory before it is used.
    Buffer keys(static_cast<std::size_t>(kv_heads_) * capacity * head_dim_, Buffer::Fill::kUndefined);
    Buffer values(static_cast<std::size_t>(kv_heads_) * capacity * padded_dim(), Buffer::Fill::kUndefined);
    if (used > 0) {
      for (int h = 0; h < kv_heads_; ++h) {
        std::memcpy(keys.data() + static_cast<std::size_t>(h) * capacity * head_dim_,
                    keys_.data() + h * key_stride() + key_offset, key_bytes);
        std::memcpy(values.data() + static_cast<std::size_t>(h) * capacity * padded_dim(),
                    values_.data() + h * value_stride() + value_offset, value_bytes);
      }
    }
    keys_ = std::move(keys);
    values_ = std::move(values);
    capacity_ = capacity;
  }
  base_ += drop;
}

void KvCache::reserve(int rows) {
  if (slot() + rows <= capacity_) return;
  const int drop = window_ > 0 ? std::max(0, slot() - (window_ - 1)) / 16 * 16 : 0;
  const int needed = (slot() - drop + rows + 15) / 16 * 16;
  int capacity = capacity_;
  if (needed > capacity_) {
    // A window slides about once per window; a growing cache grows by half.
    capacity = window_ > 0 ? std::max(needed, (2 * window_ + 15) / 16 * 16)
                           : std::max(needed, (capacity_ + capacity_ / 2 + 15) / 16 * 16);
  }
  move_to(capacity, drop);
}

void KvCache::append(const float* keys, const float* values) {
  const int t = slot();
  for (int h = 0; h < kv_heads_; ++h) {
    float* k = keys_.data() + h * key_stride() + static_cast<std::size_t>(t / 16) * head_dim_ * 16 + t % 16;
    for (int d = 0; d < head_dim_; ++d) k[static_cast<std::size_t>(d) * 16] = keys[h * head_dim_ + d];
    std::memcpy(values_.data() + h * value_stride() + static_cast<std::size_t>(t) * padded_dim(),
                values + static_cast<std::size_t>(h) * head_dim_, head_dim_ * sizeof(float));
  }
  ++position_;
}

void KvCache::export_rows(float* keys, float* values) const {
  for (int t = 0; t < slot(); ++t) {
    for (int h = 0; h < kv_heads_; ++h) {
      const std::size_t row = (static_cast<std::size_t>(t) * kv_heads_ + h) * head_dim_;
      const float* k = this->keys(h) + static_cast<std::size_t>(t / 16) * head_dim_ * 16 + t % 16;
      for (int d = 0; d < head_dim_; ++d) keys[row + d] = k[static_cast<std::size_t>(d) * 16];
      std::memcpy(values + row, this->values(h) + static_cast<std::size_t>(t) * padded_dim(),
                  head_dim_ * sizeof(float));
    }
  }
}

}  // namespace ptts
