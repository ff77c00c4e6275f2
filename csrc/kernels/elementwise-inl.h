// Maps over contiguous floats.
#pragma once

template <typename Map>
static inline void map_n(size_t n, float* y, Map map) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, map(i, kLanes));
  if (i < n) store_n(y + i, map(i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

static inline Vec load_some(const float* p, int n) { return n >= kLanes ? load(p) : load_n(p, n); }

static void activate_n(Activation activation, const float* x, float* y, size_t n) {
  switch (activation) {
    case Activation::kElu: return map_n(n, y, [=](size_t i, int k) { return velu(load_some(x + i, k)); });
    case Activation::kSilu: return map_n(n, y, [=](size_t i, int k) { return vsilu(load_some(x + i, k)); });
    case Activation::kGeluTanh: return map_n(n, y, [=](size_t i, int k) { return vgelu_tanh(load_some(x + i, k)); });
    default: return map_n(n, y, [=](size_t i, int k) { return load_some(x + i, k); });
  }
}

static void add_n(const float* x, float* y, size_t n) {
  map_n(n, y, [=](size_t i, int k) { return load_some(y + i, k) + load_some(x + i, k); });
}

static void gated_add_n(const float* x, const float* gate, const float* h, float* y, size_t n) {
  map_n(n, y, [=](size_t i, int k) { return fma(load_some(gate + i, k), load_some(h + i, k), load_some(x + i, k)); });
}

static void overlap_add_n(const float* a, const float* b, const float* c, size_t period, float* y, size_t n) {
  for (size_t start = 0; start < n; start += period) {
    map_n(period, y + start, [=](size_t i, int k) {
      return load_some(a + start + i, k) + load_some(b + start + i, k) + load_some(c + i, k);
    });
  }
}

static void depthwise_upsample_row(const float* x, const float* w, int stride, int channels, float* tail, float* out) {
  for (int s = 0; s < stride; ++s) {
    const float* head_w = w + static_cast<ptrdiff_t>(s) * channels;
    const float* tail_w = w + static_cast<ptrdiff_t>(stride + s) * channels;
    float* tail_row = tail + static_cast<ptrdiff_t>(s) * channels;
    float* out_row = out + static_cast<ptrdiff_t>(s) * channels;
    map_n(static_cast<size_t>(channels), out_row, [=](size_t i, int k) {
      return fma(load_some(x + i, k), load_some(head_w + i, k), load_some(tail_row + i, k));
    });
    map_n(static_cast<size_t>(channels), tail_row,
          [=](size_t i, int k) { return load_some(x + i, k) * load_some(tail_w + i, k); });
  }
}

static void exp_n(const float* x, float* y, size_t n) {
  map_n(n, y, [=](size_t i, int k) { return vexp(load_some(x + i, k)); });
}
