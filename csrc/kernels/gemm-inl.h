// The float32 GEMM tile: R rows times V Vecs of one panel. See kernels/gemm.h for the order of summation.
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

template <int V>
static inline void finish_row(const Vec* acc, const GemmSegment* segment, int row, int col, int width,
                              const Epilogue* epilogue) {
  float* c = segment->c + row * segment->ldc;
  const float* residual = segment->residual ? segment->residual + row * segment->ldr : nullptr;
  for (int v = 0; v < V; ++v) {
    const int left = width - v * kLanes;
    if (left > 0) finish(acc[v], epilogue, col + v * kLanes, left, c, residual);
  }
}

struct Float32Tile {
  using Weight = float;
  static constexpr int kDepthStep = 1;
  static constexpr int kRows1 = kTileRows1, kRows2 = kTileRows2;

  template <int R, int V>
  PTTS_NOINLINE static void run(const GemmSegment* segment, int row, const PackedView* packed, const float* panel,
                                int col, int width, const Epilogue* epilogue);
  static void two_panels(const GemmSegment* segment, int row, const PackedView* packed, const float* panel, int col,
                         int width, const Epilogue* epilogue);
};

template <int R, int V>
void Float32Tile::run(const GemmSegment* segment, int row, const PackedView* packed, const float* panel, int col,
                      int width, const Epilogue* epilogue) {
  const int depth = packed->depth;
  Vec acc[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) acc[r][v] = zero();
  const float* a = static_cast<const float*>(segment->a) + row * segment->lda;
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
  for (int r = 0; r < R; ++r) finish_row<V>(acc[r], segment, row + r, col, width, epilogue);
}

// The one-row case over two panels at once: four chains hide the latency of a multiply-add, and two
// streams of weights are what the hardware prefetchers follow best.
PTTS_NOINLINE void Float32Tile::two_panels(const GemmSegment* segment, int row, const PackedView* packed,
                                           const float* panel, int col, int width, const Epilogue* epilogue) {
  const int depth = packed->depth;
  Vec acc[4] = {zero(), zero(), zero(), zero()};
  const float* a = static_cast<const float*>(segment->a) + row * segment->lda;
  const float* first = panel;
  const float* second = panel + static_cast<ptrdiff_t>(kPanel) * depth;
  for (int k = 0; k < depth; ++k, first += kPanel, second += kPanel) {
    const Vec x = splat(a[k]);
    acc[0] = fma(x, load(first), acc[0]);
    acc[1] = fma(x, load(first + kLanes), acc[1]);
    acc[2] = fma(x, load(second), acc[2]);
    acc[3] = fma(x, load(second + kLanes), acc[3]);
  }
  finish_row<4>(acc, segment, row, col, width, epilogue);
}
