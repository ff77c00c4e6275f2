// Vec: sixteen float32 lanes, whatever the machine's registers hold. The scalar form below is the
// documented interface; vec_avx2.h (two registers), vec_avx512.h (one) and the NEON header (four,
// to come) provide the same names. Kernels are written once over Vec.
//
// Why always sixteen lanes and not the native width: every reduction then has the same order on
// every instruction set, so AVX2 and AVX-512 give the same bits, and lane counts never show in code.
//
// Included only by isa/table.cpp, once per instruction set, inside an unnamed namespace: nothing
// here may be a template or inline function of the standard library (see isa/table.h).
//
//   Vec zero(), splat(x), load(p), load_n(p, n)         load_n: lanes n.. are zero, memory beyond untouched
//   store(p, v), store_n(p, v, n)
//   v + v, v - v, v * v, v / v
//   fma(a, b, c)            a * b + c, one rounding where the machine has it
//   vmax(a, b), vmin(a, b)  b when either is NaN
//   round_even(v)           nearest integer, ties to even
//   scale_pow2(v, n)        v * 2^n for integral n in [-126, 127]
//   pick_less(a, b, x, y)   a < b ? x : y, per lane
//   keep(v, lo, hi, other)  lanes lo <= i < hi of v, others of `other`
//   sum(v), max_of(v)       lanes folded 16 -> 8 -> 4 -> 2 -> 1, upper half onto lower half
//
// Register budget of the GEMM tile: kTileRows2 rows of two Vecs, kTileRows1 rows of one.
#pragma once

constexpr int kLanes = 16;
constexpr int kTileRows1 = 2;
constexpr int kTileRows2 = 1;

struct Vec {
  float lane[kLanes];
};

#define PTTS_LANEWISE(expression)                      \
  Vec out;                                             \
  for (int i = 0; i < kLanes; ++i) out.lane[i] = (expression); \
  return out

static inline Vec splat(float x) { PTTS_LANEWISE(x); }
static inline Vec zero() { return splat(0.0f); }
static inline Vec load(const float* p) { PTTS_LANEWISE(p[i]); }
static inline Vec load_n(const float* p, int n) { PTTS_LANEWISE(i < n ? p[i] : 0.0f); }
static inline void store(float* p, Vec v) {
  for (int i = 0; i < kLanes; ++i) p[i] = v.lane[i];
}
static inline void store_n(float* p, Vec v, int n) {
  for (int i = 0; i < n; ++i) p[i] = v.lane[i];
}
static inline Vec operator+(Vec a, Vec b) { PTTS_LANEWISE(a.lane[i] + b.lane[i]); }
static inline Vec operator-(Vec a, Vec b) { PTTS_LANEWISE(a.lane[i] - b.lane[i]); }
static inline Vec operator*(Vec a, Vec b) { PTTS_LANEWISE(a.lane[i] * b.lane[i]); }
static inline Vec operator/(Vec a, Vec b) { PTTS_LANEWISE(a.lane[i] / b.lane[i]); }
static inline Vec fma(Vec a, Vec b, Vec c) { PTTS_LANEWISE(a.lane[i] * b.lane[i] + c.lane[i]); }
static inline Vec vmax(Vec a, Vec b) { PTTS_LANEWISE(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
static inline Vec vmin(Vec a, Vec b) { PTTS_LANEWISE(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }
static inline Vec pick_less(Vec a, Vec b, Vec x, Vec y) {
  PTTS_LANEWISE(a.lane[i] < b.lane[i] ? x.lane[i] : y.lane[i]);
}
static inline Vec keep(Vec v, int lo, int hi, Vec other) {
  PTTS_LANEWISE(i >= lo && i < hi ? v.lane[i] : other.lane[i]);
}
// Adding and subtracting 1.5 * 2^23 leaves no fraction bits: exact for |v| < 2^22.
static inline Vec round_even(Vec v) {
  Vec out;
  for (int i = 0; i < kLanes; ++i) {
    volatile float shifted = v.lane[i] + 12582912.0f;
    out.lane[i] = shifted - 12582912.0f;
  }
  return out;
}
static inline Vec scale_pow2(Vec v, Vec n) {
  Vec out;
  for (int i = 0; i < kLanes; ++i) {
    union {
      int bits;
      float value;
    } power;
    // A NaN has no integer; the product below is NaN whatever stands here.
    power.bits = (n.lane[i] == n.lane[i] ? static_cast<int>(n.lane[i]) + 127 : 0) << 23;
    out.lane[i] = v.lane[i] * power.value;
  }
  return out;
}
static inline float sum(Vec v) {
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) v.lane[i] = v.lane[i] + v.lane[i + half];
  return v.lane[0];
}
static inline float max_of(Vec v) {
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i)
      v.lane[i] = v.lane[i] > v.lane[i + half] ? v.lane[i] : v.lane[i + half];
  return v.lane[0];
}

#undef PTTS_LANEWISE
