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
// Eight-bit dot products. A Dot is sixteen int32 sums, one per column, in whatever form the machine keeps them.
//   Quantized                      element of a quantized row: unsigned char (with 128 added) or short
//   kOffset                        what was added: 128 or 0
//   Dot dot_zero(), dot(acc, a, w) acc[j] += sum_{i<4} a[i] * w[4 j + i]; exact, nothing saturates
//   dot_float(acc, col_sum)        acc[j] - kOffset * col_sum[j], as float32
//   store_quantized(out, v, n)     the first n <= 16 lanes of v, rounded; each within [-127, 127]
//
// bfloat16 (a float32's upper half), pairs of depth:
//   bf16_dot(acc, a, w)  acc[j] = fma(a[0], w[2 j], fma(a[1], w[2 j + 1], acc[j])), the order of VDPBF16PS
//   store_bf16(out, v, n)
//
// Register budget of the GEMM tile: kTileRows2 rows of two Vecs, kTileRows1 rows of one.
#pragma once

constexpr int kLanes = 16;
constexpr int kTileRows1 = 2;
constexpr int kTileRows2 = 1;
constexpr int kDotRows1 = 2;
constexpr int kDotRows2 = 1;

struct Vec {
  float lane[kLanes];
};

#define PTTS_LANEWISE_(type, expression)                       \
  type out;                                                    \
  for (int i = 0; i < kLanes; ++i) out.lane[i] = (expression); \
  return out
#define PTTS_LANEWISE(expression) PTTS_LANEWISE_(Vec, expression)

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
    for (int i = 0; i < half; ++i) v.lane[i] = v.lane[i] > v.lane[i + half] ? v.lane[i] : v.lane[i + half];
  return v.lane[0];
}

typedef short Quantized;
constexpr int kOffset = 0;

struct Dot {
  int lane[kLanes];
};
static inline Dot dot_zero() { PTTS_LANEWISE_(Dot, 0); }
static inline Dot dot(Dot acc, const Quantized* a, const signed char* w) {
  PTTS_LANEWISE_(Dot, acc.lane[i] + a[0] * w[4 * i] + a[1] * w[4 * i + 1] + a[2] * w[4 * i + 2] + a[3] * w[4 * i + 3]);
}
static inline Vec dot_float(Dot acc, const int* col_sum) {
  (void)col_sum;
  PTTS_LANEWISE(static_cast<float>(acc.lane[i]));
}
static inline void store_quantized(Quantized* out, Vec v, int n) {
  const Vec rounded = round_even(v);
  for (int i = 0; i < n; ++i) out[i] = static_cast<Quantized>(rounded.lane[i]);
}

static inline float float_of_bits(unsigned bits) {
  union {
    unsigned bits;
    float value;
  } wide;
  wide.bits = bits;
  return wide.value;
}
// Pairs are read as one integer: GCC 12 vectorises the loop over two shorts a lane wrongly.
static inline Vec bf16_dot(Vec acc, const unsigned short* a, const unsigned short* w) {
  const float even = float_of_bits(static_cast<unsigned>(a[0]) << 16);
  const float odd = float_of_bits(static_cast<unsigned>(a[1]) << 16);
  unsigned pairs[kLanes];
  __builtin_memcpy(pairs, w, sizeof pairs);
  PTTS_LANEWISE(even * float_of_bits(pairs[i] << 16) + (odd * float_of_bits(pairs[i] & 0xffff0000u) + acc.lane[i]));
}
static inline void store_bf16(unsigned short* out, Vec v, int n) {
  for (int i = 0; i < n; ++i) {
    union {
      float value;
      unsigned bits;
    } wide;
    wide.value = v.lane[i];
    const unsigned magnitude = wide.bits & 0x7fffffffu;
    unsigned rounded = (wide.bits + 0x7fffu + ((wide.bits >> 16) & 1u)) >> 16;
    if (magnitude > 0x7f800000u) rounded = (wide.bits >> 16) | 0x40u;  // NaN: quiet, payload cut
    if (magnitude < 0x00800000u) rounded = (wide.bits >> 31) << 15;    // subnormal: zero
    out[i] = static_cast<unsigned short>(rounded);
  }
}

#undef PTTS_LANEWISE_
#undef PTTS_LANEWISE
