// Vec over two AVX2 registers, with FMA. Interface: simd/vec.h.
#pragma once

#include <immintrin.h>

constexpr int kLanes = 16;
constexpr int kTileRows1 = 6;
constexpr int kTileRows2 = 3;  // 12 of 16 registers accumulate either way
constexpr int kDotRows1 = 2;
constexpr int kDotRows2 = 1;  // a Dot takes four registers

struct Vec {
  __m256 lo, hi;  // lanes 0..7 and 8..15
};

// All-ones in lanes i with first + i < n, for the half that starts at lane `first`.
static inline __m256i half_mask(int n, int first) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n - first), lane);
}

static inline Vec splat(float x) {
  const __m256 v = _mm256_set1_ps(x);
  return {v, v};
}
static inline Vec zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
static inline Vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline Vec load_n(const float* p, int n) {
  return {_mm256_maskload_ps(p, half_mask(n, 0)), _mm256_maskload_ps(p + 8, half_mask(n, 8))};
}
static inline void store(float* p, Vec v) {
  _mm256_storeu_ps(p, v.lo);
  _mm256_storeu_ps(p + 8, v.hi);
}
static inline void store_n(float* p, Vec v, int n) {
  _mm256_maskstore_ps(p, half_mask(n, 0), v.lo);
  _mm256_maskstore_ps(p + 8, half_mask(n, 8), v.hi);
}
static inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
static inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
static inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
static inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
static inline Vec fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline Vec vmax(Vec a, Vec b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
static inline Vec vmin(Vec a, Vec b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
static inline Vec pick_less(Vec a, Vec b, Vec x, Vec y) {
  return {_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
static inline Vec keep(Vec v, int lo, int hi, Vec other) {
  const __m256i low = _mm256_andnot_si256(half_mask(lo, 0), half_mask(hi, 0));
  const __m256i high = _mm256_andnot_si256(half_mask(lo, 8), half_mask(hi, 8));
  return {_mm256_blendv_ps(other.lo, v.lo, _mm256_castsi256_ps(low)),
          _mm256_blendv_ps(other.hi, v.hi, _mm256_castsi256_ps(high))};
}
static inline Vec round_even(Vec v) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(v.lo, mode), _mm256_round_ps(v.hi, mode)};
}
static inline __m256 pow2_f32x8(__m256 n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
static inline Vec scale_pow2(Vec v, Vec n) {
  return {_mm256_mul_ps(v.lo, pow2_f32x8(n.lo)), _mm256_mul_ps(v.hi, pow2_f32x8(n.hi))};
}
static inline float sum(Vec v) {
  const __m256 f32x8 = _mm256_add_ps(v.lo, v.hi);
  __m128 f32x4 = _mm_add_ps(_mm256_castps256_ps128(f32x8), _mm256_extractf128_ps(f32x8, 1));
  f32x4 = _mm_add_ps(f32x4, _mm_movehl_ps(f32x4, f32x4));
  return _mm_cvtss_f32(_mm_add_ss(f32x4, _mm_shuffle_ps(f32x4, f32x4, 1)));
}
static inline float max_of(Vec v) {
  const __m256 f32x8 = _mm256_max_ps(v.lo, v.hi);
  __m128 f32x4 = _mm_max_ps(_mm256_castps256_ps128(f32x8), _mm256_extractf128_ps(f32x8, 1));
  f32x4 = _mm_max_ps(f32x4, _mm_movehl_ps(f32x4, f32x4));
  return _mm_cvtss_f32(_mm_max_ss(f32x4, _mm_shuffle_ps(f32x4, f32x4, 1)));
}

// Without VNNI: VPMADDUBSW would saturate at 255 * 127 * 2, so both sides are widened to 16 bits and VPMADDWD
// gives exact pairs. Register i holds columns 4 i .. 4 i + 3, two int32 partial sums each.
typedef short Quantized;
constexpr int kOffset = 0;

struct Dot {
  __m256i i32x8[4];
};
static inline Dot dot_zero() {
  const __m256i z = _mm256_setzero_si256();
  return {{z, z, z, z}};
}
static inline Dot dot(Dot acc, const Quantized* a, const signed char* w) {
  long long four;
  __builtin_memcpy(&four, a, sizeof four);
  const __m256i x = _mm256_set1_epi64x(four);
  for (int i = 0; i < 4; ++i) {
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + 16 * i)));
    acc.i32x8[i] = _mm256_add_epi32(acc.i32x8[i], _mm256_madd_epi16(wide, x));
  }
  return acc;
}
static inline __m256 columns_f32x8(__m256i first, __m256i second) {
  // hadd works within 128-bit halves: [0 1 4 5 | 2 3 6 7] of the eight columns.
  const __m256i mixed = _mm256_hadd_epi32(first, second);
  return _mm256_cvtepi32_ps(_mm256_permute4x64_epi64(mixed, 0xd8));
}
static inline Vec dot_float(Dot acc, const int* col_sum) {
  (void)col_sum;
  return {columns_f32x8(acc.i32x8[0], acc.i32x8[1]), columns_f32x8(acc.i32x8[2], acc.i32x8[3])};
}
static inline void store_quantized(Quantized* out, Vec v, int n) {
  const __m256i lo = _mm256_cvtps_epi32(v.lo), hi = _mm256_cvtps_epi32(v.hi);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);
  if (n >= kLanes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), packed);
  } else {
    alignas(32) short lanes[kLanes];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), packed);
    for (int i = 0; i < n; ++i) out[i] = lanes[i];
  }
}

static inline Vec bf16_dot(Vec acc, const unsigned short* a, const unsigned short* w) {
  const __m256 even = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(static_cast<unsigned>(a[0]) << 16)));
  const __m256 odd = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(static_cast<unsigned>(a[1]) << 16)));
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  const __m256i lo = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
  const __m256i hi = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 16));
  acc.lo = _mm256_fmadd_ps(odd, _mm256_castsi256_ps(_mm256_and_si256(lo, high)), acc.lo);
  acc.hi = _mm256_fmadd_ps(odd, _mm256_castsi256_ps(_mm256_and_si256(hi, high)), acc.hi);
  acc.lo = _mm256_fmadd_ps(even, _mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)), acc.lo);
  acc.hi = _mm256_fmadd_ps(even, _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16)), acc.hi);
  return acc;
}
static inline __m256i bf16_bits_i32x8(__m256 v) {
  const __m256i bits = _mm256_castps_si256(v), one = _mm256_set1_epi32(1);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
  __m256i out = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff)), 16);
  const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
  const __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
  const __m256i tiny = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x00800000), magnitude);
  out = _mm256_blendv_epi8(out, _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40)), nan);
  return _mm256_blendv_epi8(out, _mm256_slli_epi32(_mm256_srli_epi32(bits, 31), 15), tiny);
}
static inline void store_bf16(unsigned short* out, Vec v, int n) {
  const __m256i packed =
      _mm256_permute4x64_epi64(_mm256_packus_epi32(bf16_bits_i32x8(v.lo), bf16_bits_i32x8(v.hi)), 0xd8);
  if (n >= kLanes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), packed);
  } else {
    alignas(32) unsigned short lanes[kLanes];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), packed);
    for (int i = 0; i < n; ++i) out[i] = lanes[i];
  }
}
