// Softmax attention of the queries of one key/value head over its cache, in place.
//
//   out_i = sum_t p_it v_t,   p_i = softmax_t(scale * q_i . k_t),   t in the slots query i sees
//
// Cache layout of one head with capacity C (a multiple of 16) and head dimension D, Dp = D rounded up
// to 16: keys in blocks of 16 slots, transposed: slot t, component d at (t / 16) * D * 16 + d * 16 + t % 16;
// values as rows of Dp (padding zero). A query's scores then come out sixteen slots to a Vec with no
// horizontal sum. Slots are written once and never moved except by whole blocks, so lane = slot % 16
// always, and a score's place in the softmax sum does not depend on how the rows arrived.
//
// Grouped-query attention: the caller hands all query heads that share a key/value head to one call.
// Slots beyond the visible range are masked by selection, never by arithmetic: they may hold NaN.
// Order of summation: scores over d; the softmax sum lane-wise over blocks, then folded; outputs over t.
// Aliasing: out may be q. Scratch: AttentionHead::scores. Threads: the caller splits over heads.
//
// Why not flash-style running maxima: the whole score row of the longest released context is a few KB.
#pragma once

#include <cstddef>

#include "base/buffer.h"
#include "isa/table.h"

namespace ptts {

// One layer's key/value cache of one stream. window 0: grows with the sequence. window > 0: slides, keeping
// at least window - 1 slots before the next row.
class KvCache {
 public:
  KvCache() = default;
  KvCache(int kv_heads, int head_dim, int window);
  KvCache copy() const;

  // Makes room for `rows` more slots; existing contents keep their position. Call before append().
  void reserve(int rows);
  // Appends one row of keys and values, [kv_heads * head_dim] each.
  void append(const float* keys, const float* values);

  int position() const { return position_; }      // absolute index of the next row
  int slot() const { return position_ - base_; }  // where it goes
  int kv_heads() const { return kv_heads_; }
  int head_dim() const { return head_dim_; }
  const float* keys(int head) const { return keys_.data() + head * key_stride(); }
  const float* values(int head) const { return values_.data() + head * value_stride(); }

  // Copies of stored rows [0, position) as [rows, kv_heads, head_dim]; only for caches that never slid.
  void export_rows(float* keys, float* values) const;

 private:
  int padded_dim() const { return (head_dim_ + 15) / 16 * 16; }
  std::size_t key_stride() const { return static_cast<std::size_t>(capacity_) * head_dim_; }
  std::size_t value_stride() const { return static_cast<std::size_t>(capacity_) * padded_dim(); }
  void move_to(int capacity, int drop);

  int kv_heads_ = 0, head_dim_ = 0, window_ = 0;
  int capacity_ = 0, base_ = 0, position_ = 0;
  Buffer keys_, values_;
};

}  // namespace ptts
