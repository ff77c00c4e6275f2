// The bfloat16 GEMM tile: operands rounded to bf16, float32 sums over pairs of depth in the order of VDPBF16PS.
// Layout: kernels/gemm.h.
#pragma once

static void to_bf16_n(const float* x, unsigned short* y, size_t n) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_bf16(y + i, load(x + i), kLanes);
  if (i < n) store_bf16(y + i, load_n(x + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

struct BFloat16Tile {
  using Weight = unsigned short;
  static constexpr int kDepthStep = 2;
  static constexpr int kRows1 = kTileRows1, kRows2 = kTileRows2;

  template <int R, int V>
  PTTS_NOINLINE static void run(const GemmSegment* segment, int row, const PackedView* packed,
                                const unsigned short* panel, int col, int width, const Epilogue* epilogue) {
    Vec acc[R][V];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) acc[r][v] = zero();
    const ptrdiff_t lda = segment->lda;
    const unsigned short* a = static_cast<const unsigned short*>(segment->a) + row * lda;
    const unsigned short* w = panel;
    for (int k = 0; k < packed->depth; k += 2, a += 2, w += V * 2 * kLanes)
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) acc[r][v] = bf16_dot(acc[r][v], a + r * lda, w + v * 2 * kLanes);
    for (int r = 0; r < R; ++r) finish_row<V>(acc[r], segment, row + r, col, width, epilogue);
  }

  static void two_panels(const GemmSegment* segment, int row, const PackedView* packed, const unsigned short* panel,
                         int col, int width, const Epilogue* epilogue) {
    run<1, 2>(segment, row, packed, panel, col, kPanel, epilogue);
    const ptrdiff_t depth = (packed->depth + 1) / 2 * 2;
    run<1, 2>(segment, row, packed, panel + kPanel * depth, col + kPanel, width - kPanel, epilogue);
  }
};
