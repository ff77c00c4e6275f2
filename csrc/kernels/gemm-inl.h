// The GEMM tile: R rows times V Vecs of one panel. See kernels/gemm.h for the order of summation.
#pragma once

// Tiles stay functions of their own: inlined into the loop over panels, GCC 12 keeps half of the accumulators
// of the two-register Vec in memory, and AVX2 falls from 110 to 45 GFLOP/s.
#if defined(_MSC_VER)
#define PTTS_NOINLINE __declspec(noinline)
#else
#define PTTS_NOINLINE __attribute__((noinline))
#endif

static inline Vec apply_activation(Activation activation, Vec v) {
  switch (activation) {
    case Activation::kElu: return velu(v);
    case Activation::kSilu: return vsilu(v);
    case Activation::kGeluTanh: return vgelu_tanh(v);
    default: return v;
  }
}

// One Vec of outputs, first column j, n of 16 lanes valid.
static inline void finish(Vec acc, const Epilogue* epilogue, int j, int n, float* c, const float* residual) {
  const bool whole = n >= kLanes;
  if (epilogue->bias) acc = acc + (whole ? load(epilogue->bias + j) : load_n(epilogue->bias + j, n));
  acc = apply_activation(epilogue->activation, acc);
  if (epilogue->scale) acc = acc * (whole ? load(epilogue->scale + j) : load_n(epilogue->scale + j, n));
  if (residual) acc = acc + (whole ? load(residual + j) : load_n(residual + j, n));
  if (whole) {
    store(c + j, acc);
  } else {
    store_n(c + j, acc, n);
  }
}

template <int R, int V>
PTTS_NOINLINE static void gemm_tile(const GemmSegment* segment, int row, const float* panel, int depth, int col, int width,
                      const Epilogue* epilogue) {
  Vec acc[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) acc[r][v] = zero();
  const float* a = segment->a + row * segment->lda;
  const ptrdiff_t lda = segment->lda;
  const float* w = panel;
  for (int k = 0; k < depth; ++k, w += V * kLanes) {
    Vec b[V];
    for (int v = 0; v < V; ++v) b[v] = load(w + v * kLanes);
    for (int r = 0; r < R; ++r) {
      const Vec x = splat(a[r * lda + k]);
      for (int v = 0; v < V; ++v) acc[r][v] = fma(x, b[v], acc[r][v]);
    }
  }
  for (int r = 0; r < R; ++r) {
    float* c = segment->c + (row + r) * segment->ldc;
    const float* residual = segment->residual ? segment->residual + (row + r) * segment->ldr : nullptr;
    for (int v = 0; v < V; ++v) {
      const int left = width - v * kLanes;
      if (left > 0) finish(acc[r][v], epilogue, col + v * kLanes, left, c, residual);
    }
  }
}

// The one-row case over two panels at once: four chains hide the latency of a multiply-add, and two
// streams of weights are what the hardware prefetchers follow best.
PTTS_NOINLINE static void gemv_two_panels(const GemmSegment* segment, int row, const float* panel, int depth, int col,
                            int width, const Epilogue* epilogue) {
  Vec acc[4] = {zero(), zero(), zero(), zero()};
  const float* a = segment->a + row * segment->lda;
  const float* first = panel;
  const float* second = panel + static_cast<ptrdiff_t>(kPanel) * depth;
  for (int k = 0; k < depth; ++k, first += kPanel, second += kPanel) {
    const Vec x = splat(a[k]);
    acc[0] = fma(x, load(first), acc[0]);
    acc[1] = fma(x, load(first + kLanes), acc[1]);
    acc[2] = fma(x, load(second), acc[2]);
    acc[3] = fma(x, load(second + kLanes), acc[3]);
  }
  float* c = segment->c + row * segment->ldc;
  const float* residual = segment->residual ? segment->residual + row * segment->ldr : nullptr;
  for (int v = 0; v < 4; ++v) {
    const int left = width - v * kLanes;
    if (left > 0) finish(acc[v], epilogue, col + v * kLanes, left, c, residual);
  }
}

// Calls the tile with `rows` rows (1 <= rows <= R).
template <int R, int V>
static inline void gemm_tile_rows(int rows, const GemmSegment* segment, int row, const float* panel, int depth,
                                  int col, int width, const Epilogue* epilogue) {
  if constexpr (R > 1) {
    if (rows < R) {
      gemm_tile_rows<R - 1, V>(rows, segment, row, panel, depth, col, width, epilogue);
      return;
    }
  }
  gemm_tile<R, V>(segment, row, panel, depth, col, width, epilogue);
}

template <int R, int V>
static void gemm_panel(const GemmSegment* segment, int row_begin, int row_end, const float* panel, int depth,
                       int col, int width, const Epilogue* epilogue) {
  // Even tiles: 16 rows as 8 + 8 keep more chains busy than 12 + 4.
  const int rows = row_end - row_begin;
  const int tiles = (rows + R - 1) / R;
  int row = row_begin;
  for (int t = 0; t < tiles; ++t) {
    const int take = rows / tiles + (t < rows % tiles ? 1 : 0);
    gemm_tile_rows<R, V>(take, segment, row, panel, depth, col, width, epilogue);
    row += take;
  }
}

static void gemm_rows(const GemmSegment* segment, int row_begin, int row_end, const float* packed, int depth,
                      int cols, int panel_begin, int panel_end, const Epilogue* epilogue) {
  for (int panel = panel_begin; panel < panel_end; ++panel) {
    const int col = panel * kPanel;
    const int left = cols - col;
    const float* w = packed + static_cast<ptrdiff_t>(col) * depth;
    if (left <= kHalfPanel) {
      gemm_panel<kTileRows1, 1>(segment, row_begin, row_end, w, depth, col, left, epilogue);
    } else if (row_end - row_begin == 1 && panel + 1 < panel_end && left > kPanel + kHalfPanel) {
      gemv_two_panels(segment, row_begin, w, depth, col, left < 2 * kPanel ? left : 2 * kPanel, epilogue);
      ++panel;
    } else {
      gemm_panel<kTileRows2, 2>(segment, row_begin, row_end, w, depth, col, left < kPanel ? left : kPanel,
                                epilogue);
    }
  }
}
