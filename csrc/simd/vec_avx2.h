// Vec over two AVX2 registers, with FMA. Interface: simd/vec.h.
#pragma once

#include <immintrin.h>

constexpr int kLanes = 16;
constexpr int kTileRows1 = 6;
constexpr int kTileRows2 = 3;  // 12 of 16 registers accumulate either way

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
