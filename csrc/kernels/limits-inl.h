// The loops of kernels/limits.h.
#pragma once

// Eight sums in turn: enough loads under way for any memory, and nothing but loads to wait for.
static float read_floats(const float* x, size_t n) {
  constexpr int kSums = 8;
  Vec sums[kSums];
  for (int i = 0; i < kSums; ++i) sums[i] = zero();
  size_t at = 0;
  for (; at + kSums * kLanes <= n; at += kSums * kLanes)
    for (int i = 0; i < kSums; ++i) sums[i] = sums[i] + load(x + at + i * kLanes);
  for (int i = 1; i < kSums; ++i) sums[0] = sums[0] + sums[i];
  return sum(sums[0]);
}

constexpr int kSpinSteps = 64;  // weights of the loop: 64 steps of up to 64 bytes stay in the first-level cache

// `rounds` times kSpinSteps steps of R independent sums over the same weights; returns the operations done. The row
// operands stay in registers, a step loads one new vector of weights.
static double spin_float32(int rounds, const float* a, const float* w, float* out) {
  constexpr int R = kTileRows1;
  Vec acc[R], x[R];
  for (int r = 0; r < R; ++r) {
    acc[r] = zero();
    x[r] = splat(a[r]);
  }
  for (int round = 0; round < rounds; ++round)
    for (int k = 0; k < kSpinSteps; ++k) {
      const Vec b = load(w + k * kLanes);
      for (int r = 0; r < R; ++r) acc[r] = fma(x[r], b, acc[r]);
    }
  for (int r = 0; r < R; ++r) store(out + r * kLanes, acc[r]);
  return 2.0 * rounds * kSpinSteps * R * kLanes;
}

static double spin_int8(int rounds, const void* a, const void* w, float* out) {
  constexpr int R = kDotRows1;
  const Quantized* rows = static_cast<const Quantized*>(a);
  const signed char* weights = static_cast<const signed char*>(w);
  Dot acc[R];
  for (int r = 0; r < R; ++r) acc[r] = dot_zero();
  for (int round = 0; round < rounds; ++round)
    for (int k = 0; k < kSpinSteps; ++k)
      for (int r = 0; r < R; ++r) acc[r] = dot(acc[r], rows + 4 * r, weights + k * 4 * kLanes);
  int column_sums[kLanes];
  for (int i = 0; i < kLanes; ++i) column_sums[i] = 0;
  for (int r = 0; r < R; ++r) store(out + r * kLanes, dot_float(acc[r], column_sums));
  return 8.0 * rounds * kSpinSteps * R * kLanes;
}

static double spin_bf16(int rounds, const unsigned short* a, const unsigned short* w, float* out) {
  constexpr int R = kTileRows1;
  Vec acc[R];
  for (int r = 0; r < R; ++r) acc[r] = zero();
  for (int round = 0; round < rounds; ++round)
    for (int k = 0; k < kSpinSteps; ++k)
      for (int r = 0; r < R; ++r) acc[r] = bf16_dot(acc[r], a + 2 * r, w + k * 2 * kLanes);
  for (int r = 0; r < R; ++r) store(out + r * kLanes, acc[r]);
  return 4.0 * rounds * kSpinSteps * R * kLanes;
}

// All three behind one signature: `a` and `w` are kSpinBytes each, `out` takes kSpinFloats.
static_assert(kTileRows1 <= 16 && kDotRows1 <= 16, "kSpinFloats");
static double spin(Precision precision, int rounds, const void* a, const void* w, float* out) {
  switch (precision) {
    case Precision::kInt8: return spin_int8(rounds, a, w, out);
    case Precision::kBFloat16:
      return spin_bf16(rounds, static_cast<const unsigned short*>(a), static_cast<const unsigned short*>(w), out);
    default: return spin_float32(rounds, static_cast<const float*>(a), static_cast<const float*>(w), out);
  }
}
