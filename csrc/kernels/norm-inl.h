// Layer norm of one row, two passes (mean, then centred squares), lanes folded at the end.
#pragma once

static void layer_norm_row(const float* x, float* y, int n, float eps, const float* weight, const float* bias,
                           const float* shift, const float* scale) {
  const int whole = n / kLanes * kLanes, rest = n - whole;
  Vec total = zero();
  for (int i = 0; i < whole; i += kLanes) total = total + load(x + i);
  if (rest) total = total + load_n(x + whole, rest);
  const Vec mean = splat(sum(total) / static_cast<float>(n));

  Vec squares = zero();
  for (int i = 0; i < whole; i += kLanes) {
    const Vec d = load(x + i) - mean;
    squares = fma(d, d, squares);
  }
  if (rest) {
    const Vec d = keep(load_n(x + whole, rest) - mean, 0, rest, zero());
    squares = fma(d, d, squares);
  }
  const float variance = sum(squares) / static_cast<float>(n);
  const Vec factor = splat(1.0f / __builtin_sqrtf(variance + eps));

  for (int i = 0; i < n; i += kLanes) {
    const int left = n - i;
    const bool full = left >= kLanes;
    Vec v = ((full ? load(x + i) : load_n(x + i, left)) - mean) * factor;
    if (weight) v = v * (full ? load(weight + i) : load_n(weight + i, left));
    if (bias) v = v + (full ? load(bias + i) : load_n(bias + i, left));
    if (scale) {
      const Vec s = splat(1.0f) + (full ? load(scale + i) : load_n(scale + i, left));
      v = fma(v, s, full ? load(shift + i) : load_n(shift + i, left));
    }
    if (full) {
      store(y + i, v);
    } else {
      store_n(y + i, v, left);
    }
  }
}
