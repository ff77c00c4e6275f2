// Vec over one AVX-512 register. Interface: simd/vec.h.
#pragma once

#include <immintrin.h>

constexpr int kLanes = 16;
constexpr int kTileRows1 = 12;
constexpr int kTileRows2 = 12;  // 24 of 32 registers accumulate; 8 would leave the FMA pipes idle on skinny tiles

struct Vec {
  __m512 f32x16;
};

static inline __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

static inline Vec splat(float x) { return {_mm512_set1_ps(x)}; }
static inline Vec zero() { return {_mm512_setzero_ps()}; }
static inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline Vec load_n(const float* p, int n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
static inline void store(float* p, Vec v) { _mm512_storeu_ps(p, v.f32x16); }
static inline void store_n(float* p, Vec v, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), v.f32x16); }
static inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.f32x16, b.f32x16)}; }
static inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.f32x16, b.f32x16)}; }
static inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.f32x16, b.f32x16)}; }
static inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.f32x16, b.f32x16)}; }
static inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.f32x16, b.f32x16, c.f32x16)}; }
static inline Vec vmax(Vec a, Vec b) { return {_mm512_max_ps(a.f32x16, b.f32x16)}; }
static inline Vec vmin(Vec a, Vec b) { return {_mm512_min_ps(a.f32x16, b.f32x16)}; }
static inline Vec pick_less(Vec a, Vec b, Vec x, Vec y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.f32x16, b.f32x16, _CMP_LT_OQ), y.f32x16, x.f32x16)};
}
static inline Vec keep(Vec v, int lo, int hi, Vec other) {
  const __mmask16 mask = static_cast<__mmask16>(first_lanes(hi) & ~first_lanes(lo));
  return {_mm512_mask_blend_ps(mask, other.f32x16, v.f32x16)};
}
static inline Vec round_even(Vec v) { return {_mm512_roundscale_ps(v.f32x16, _MM_FROUND_TO_NEAREST_INT)}; }
static inline Vec scale_pow2(Vec v, Vec n) {
  const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n.f32x16), _mm512_set1_epi32(127));
  return {_mm512_mul_ps(v.f32x16, _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23)))};
}
static inline float sum(Vec v) {
  __m256 f32x8 = _mm256_add_ps(_mm512_castps512_ps256(v.f32x16), _mm512_extractf32x8_ps(v.f32x16, 1));
  __m128 f32x4 = _mm_add_ps(_mm256_castps256_ps128(f32x8), _mm256_extractf128_ps(f32x8, 1));
  f32x4 = _mm_add_ps(f32x4, _mm_movehl_ps(f32x4, f32x4));
  return _mm_cvtss_f32(_mm_add_ss(f32x4, _mm_shuffle_ps(f32x4, f32x4, 1)));
}
static inline float max_of(Vec v) {
  __m256 f32x8 = _mm256_max_ps(_mm512_castps512_ps256(v.f32x16), _mm512_extractf32x8_ps(v.f32x16, 1));
  __m128 f32x4 = _mm_max_ps(_mm256_castps256_ps128(f32x8), _mm256_extractf128_ps(f32x8, 1));
  f32x4 = _mm_max_ps(f32x4, _mm_movehl_ps(f32x4, f32x4));
  return _mm_cvtss_f32(_mm_max_ss(f32x4, _mm_shuffle_ps(f32x4, f32x4, 1)));
}
