// Vec over one AVX-512 register. Interface: simd/vec.h. Compiled three times: plain, with VNNI, with BF16 too.
#pragma once

#include <immintrin.h>

constexpr int kLanes = 16;
constexpr int kTileRows1 = 12;
constexpr int kTileRows2 = 12;  // 24 of 32 registers accumulate; 8 would leave the FMA pipes idle on skinny tiles
#if defined(__AVX512VNNI__)
constexpr int kDotRows1 = 8;
constexpr int kDotRows2 = 8;  // 12: GCC reloads the weights for every row (213 against 430 GOP/s)
#else
constexpr int kDotRows1 = 8;
constexpr int kDotRows2 = 6;  // a Dot takes two registers
#endif

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

#if defined(__AVX512VNNI__)

typedef unsigned char Quantized;
constexpr int kOffset = 128;

struct Dot {
  __m512i i32x16;
};
static inline Dot dot_zero() { return {_mm512_setzero_si512()}; }
static inline Dot dot(Dot acc, const Quantized* a, const signed char* w) {
  int four;
  __builtin_memcpy(&four, a, sizeof four);
  return {_mm512_dpbusd_epi32(acc.i32x16, _mm512_set1_epi32(four), _mm512_loadu_si512(w))};
}
static inline Vec dot_float(Dot acc, const int* col_sum) {
  const __m512i offset = _mm512_slli_epi32(_mm512_loadu_si512(col_sum), 7);
  return {_mm512_cvtepi32_ps(_mm512_sub_epi32(acc.i32x16, offset))};
}
static inline void store_quantized(Quantized* out, Vec v, int n) {
  const __m512i shifted = _mm512_add_epi32(_mm512_cvtps_epi32(v.f32x16), _mm512_set1_epi32(kOffset));
  _mm_mask_storeu_epi8(out, first_lanes(n < kLanes ? n : kLanes), _mm512_cvtepi32_epi8(shifted));
}

#else

// Without VNNI: VPMADDUBSW would saturate, so both sides are widened to 16 bits and VPMADDWD gives exact pairs.
// Register i holds columns 8 i .. 8 i + 7, two int32 partial sums each.
typedef short Quantized;
constexpr int kOffset = 0;

struct Dot {
  __m512i lo, hi;
};
static inline Dot dot_zero() { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
static inline Dot dot(Dot acc, const Quantized* a, const signed char* w) {
  long long four;
  __builtin_memcpy(&four, a, sizeof four);
  const __m512i x = _mm512_set1_epi64(four);
  const __m512i lo = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
  const __m512i hi = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 32)));
  return {_mm512_add_epi32(acc.lo, _mm512_madd_epi16(lo, x)), _mm512_add_epi32(acc.hi, _mm512_madd_epi16(hi, x))};
}
static inline Vec dot_float(Dot acc, const int* col_sum) {
  (void)col_sum;
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  return {_mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_permutex2var_epi32(acc.lo, even, acc.hi),
                                              _mm512_permutex2var_epi32(acc.lo, odd, acc.hi)))};
}
static inline void store_quantized(Quantized* out, Vec v, int n) {
  _mm256_mask_storeu_epi16(out, first_lanes(n < kLanes ? n : kLanes),
                           _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v.f32x16)));
}

#endif

#if defined(__AVX512BF16__)

static inline Vec bf16_dot(Vec acc, const unsigned short* a, const unsigned short* w) {
  int two;
  __builtin_memcpy(&two, a, sizeof two);
  return {_mm512_dpbf16_ps(acc.f32x16, reinterpret_cast<__m512bh>(_mm512_set1_epi32(two)),
                           reinterpret_cast<__m512bh>(_mm512_loadu_si512(w)))};
}

#else

static inline Vec bf16_dot(Vec acc, const unsigned short* a, const unsigned short* w) {
  const __m512 even = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(static_cast<unsigned>(a[0]) << 16)));
  const __m512 odd = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(static_cast<unsigned>(a[1]) << 16)));
  const __m512i pairs = _mm512_loadu_si512(w);
  const __m512 high = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  const __m512 low = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
  return {_mm512_fmadd_ps(even, low, _mm512_fmadd_ps(odd, high, acc.f32x16))};
}

#endif

// By integer arithmetic on every set: the conversion instruction would save a few cycles a row.
static inline void store_bf16(unsigned short* out, Vec v, int n) {
  const __m512i bits = _mm512_castps_si512(v.f32x16);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff)), 16);
  const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
  const __mmask16 nan = _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7f800000));
  const __mmask16 tiny = _mm512_cmplt_epi32_mask(magnitude, _mm512_set1_epi32(0x00800000));
  rounded = _mm512_mask_or_epi32(rounded, nan, _mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
  rounded = _mm512_mask_slli_epi32(rounded, tiny, _mm512_srli_epi32(bits, 31), 15);
  _mm256_mask_storeu_epi16(out, first_lanes(n < kLanes ? n : kLanes), _mm512_cvtepi32_epi16(rounded));
}
