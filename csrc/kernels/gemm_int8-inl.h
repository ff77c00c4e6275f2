// The int8 GEMM tile. Weights int8 per column, rows int8 with a scale of their own, int32 sums, exact in any order:
// every instruction set gives the same integers. Layout: kernels/gemm.h.
#pragma once

// max|x| / 127 as the scale; the row as round(x / scale), offset by kOffset, zeros up to a multiple of 4. A row whose
// largest is below kSmallestPeak becomes zero (127 / max would overflow), one with a NaN or an infinity zeros with
// the scale NaN: no integer can stand for it, and its outputs have to show it.
static float quantize_row(const float* x, int n, void* out) {
  Quantized* q = static_cast<Quantized*>(out);
  Vec top = zero(), poison = zero();
  for (int i = 0; i < n; i += kLanes) {
    const Vec v = n - i >= kLanes ? load(x + i) : load_n(x + i, n - i);
    top = vmax(top, vmax(v, zero() - v));
    poison = fma(v, zero(), poison);  // 0 * NaN and 0 * inf are NaN and stay
  }
  const float peak = max_of(top), bad = sum(poison);
  const bool whole = bad == 0.0f;
  const float inverse = whole && peak >= kSmallestPeak ? 127.0f / peak : 0.0f;
  const Vec factor = splat(inverse), limit = splat(127.0f), lowest = splat(-127.0f);
  for (int i = 0; i < n; i += kLanes) {
    const int left = n - i;
    const Vec v = whole ? (left >= kLanes ? load(x + i) : load_n(x + i, left)) * factor : zero();
    store_quantized(q + i, vmin(limit, vmax(lowest, v)), left < kLanes ? left : kLanes);
  }
  for (int i = n; i < (n + 3) / 4 * 4; ++i) q[i] = static_cast<Quantized>(kOffset);
  return whole ? (inverse > 0.0f ? peak / 127.0f : 0.0f) : bad;
}

template <int V>
static inline void finish_int8(const Dot* acc, const GemmSegment* segment, int row, const PackedView* packed, int col,
                               int width, const Epilogue* epilogue) {
  float* c = segment->c + row * segment->ldc;
  const float* residual = segment->residual ? segment->residual + row * segment->ldr : nullptr;
  const Vec scale = splat(segment->row_scale[row]);
  for (int v = 0; v < V; ++v) {
    const int left = width - v * kLanes, j = col + v * kLanes;
    if (left > 0) {
      const Vec value = dot_float(acc[v], packed->col_sum + j) * (load(packed->col_scale + j) * scale);
      finish(value, epilogue, j, left, c, residual);
    }
  }
}

struct Int8Tile {
  using Weight = signed char;
  static constexpr int kDepthStep = 4;
  static constexpr int kRows1 = kDotRows1, kRows2 = kDotRows2;

  template <int R, int V>
  PTTS_NOINLINE static void run(const GemmSegment* segment, int row, const PackedView* packed, const signed char* panel,
                                int col, int width, const Epilogue* epilogue) {
    Dot acc[R][V];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) acc[r][v] = dot_zero();
    const ptrdiff_t lda = segment->lda;
    const Quantized* a = static_cast<const Quantized*>(segment->a) + row * lda;
    const signed char* w = panel;
    for (int k = 0; k < packed->depth; k += 4, a += 4, w += V * 4 * kLanes)
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) acc[r][v] = dot(acc[r][v], a + r * lda, w + v * 4 * kLanes);
    for (int r = 0; r < R; ++r) finish_int8<V>(acc[r], segment, row + r, packed, col, width, epilogue);
  }

  // Two streams of weights, four chains.
  PTTS_NOINLINE static void two_panels(const GemmSegment* segment, int row, const PackedView* packed,
                                       const signed char* panel, int col, int width, const Epilogue* epilogue) {
    Dot acc[4] = {dot_zero(), dot_zero(), dot_zero(), dot_zero()};
    const Quantized* a = static_cast<const Quantized*>(segment->a) + row * segment->lda;
    constexpr int half = 4 * kLanes;
    const signed char* first = panel;
    const signed char* second = panel + static_cast<ptrdiff_t>(kPanel) * ((packed->depth + 3) / 4 * 4);
    for (int k = 0; k < packed->depth; k += 4, a += 4, first += 2 * half, second += 2 * half) {
      acc[0] = dot(acc[0], a, first);
      acc[1] = dot(acc[1], a, first + half);
      acc[2] = dot(acc[2], a, second);
      acc[3] = dot(acc[3], a, second + half);
    }
    finish_int8<4>(acc, segment, row, packed, col, width, epilogue);
  }
};
