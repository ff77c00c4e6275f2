#include "kernels/gemm.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/check.h"

namespace ptts {
namespace {

constexpr std::size_t kChunkBytes = 256 * 1024;      // weights of a task: less cost bandwidth
constexpr std::size_t kRowBlockFloats = 128 * 1024;  // rows of a block stay in a 1 MiB second-level cache
constexpr int kMinRowBlock = 48;
constexpr int kQuantizedPad = 4;
// Rows a multiple of 4 KiB apart share one set of the first-level cache, and the 8 to 12 rows of a tile evict each
// other (41 against 105 GFLOP/s at depth 1024): such rows are laid out anew with a line between them.
constexpr std::size_t kAliasBytes = 4096, kLineBytes = 64;
constexpr int kFewestAliasing = 8;
constexpr int kMaxInt8Depth = 0x7fffffff / (127 * 127);

int depth_step(Precision precision) {
  return precision == Precision::kInt8 ? 4 : precision == Precision::kBFloat16 ? 2 : 1;
}

std::size_t element_bytes(Precision precision) {
  return precision == Precision::kInt8 ? 1 : precision == Precision::kBFloat16 ? 2 : 4;
}

int padded(int n, int step) { return (n + step - 1) / step * step; }

int panel_width(int cols, int panel) { return cols - panel * kPanel > kHalfPanel ? kPanel : kHalfPanel; }

std::uint16_t to_bf16(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);  // NaN, quiet
  if (magnitude < 0x00800000u) return static_cast<std::uint16_t>((bits >> 31) << 15);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

std::size_t unaliased(std::size_t row_bytes, int rows) {
  return rows >= kFewestAliasing && row_bytes % kAliasBytes == 0 ? row_bytes + kLineBytes : row_bytes;
}

// Where float32 rows go: their own distance, or a better one. Overlapping rows (a convolution's) stay.
std::size_t unaliased_lda(const GemmSegment& segment, int depth) {
  const auto lda = static_cast<std::size_t>(segment.lda);
  return segment.lda < depth ? lda : unaliased(lda * sizeof(float), segment.rows) / sizeof(float);
}

bool any_aliasing(const GemmSegment* segments, int count, int depth) {
  for (int s = 0; s < count; ++s)
    if (unaliased_lda(segments[s], depth) != static_cast<std::size_t>(segments[s].lda)) return true;
  return false;
}

// float32 rows of the segments in the matrix's own element type, spread out where they would alias.
void convert_rows(const KernelTable& kernels, Pool& pool, Scratch& scratch, const GemmSegment* segments, int count,
                  const PackedMatrix& weights, GemmSegment* converted) {
  const int depth = weights.depth();
  for (int s = 0; s < count; ++s) {
    converted[s] = segments[s];
    const GemmSegment& segment = segments[s];
    if (segment.rows == 0) continue;
    const float* a = static_cast<const float*>(segment.a);
    switch (weights.precision()) {
      case Precision::kInt8: {
        const std::size_t row_bytes =
            unaliased(static_cast<std::size_t>(padded(depth, kQuantizedPad)) * kernels.quantized_bytes, segment.rows);
        auto* rows = scratch.of<unsigned char>(row_bytes * segment.rows);
        float* scales = scratch.floats(segment.rows);
        parallel_for(pool, segment.rows, 2.0 * segment.rows * depth, [&](int r) {
          scales[r] = kernels.quantize_row(a + r * segment.lda, depth, rows + r * row_bytes);
        });
        converted[s].a = rows;
        converted[s].lda = static_cast<std::ptrdiff_t>(row_bytes) / kernels.quantized_bytes;
        converted[s].row_scale = scales;
        break;
      }
      case Precision::kBFloat16: {
        // Rows may overlap (a convolution's do): convert what they span once. An odd depth is a zero short of its last
        // pair, and zero times a neighbour's NaN would be NaN: such rows are laid out apart.
        const bool apart = segment.lda >= depth || depth % 2 != 0;
        const std::size_t lda =
            apart ? unaliased(static_cast<std::size_t>(padded(depth, 2)) * 2, segment.rows) / 2 : segment.lda;
        const std::size_t span = static_cast<std::size_t>(segment.rows - 1) * lda + padded(depth, 2);
        auto* values = scratch.of<unsigned short>(span);
        if (apart) {
          parallel_for(pool, segment.rows, 1.0 * span, [&](int r) {
            kernels.to_bf16(a + r * segment.lda, values + r * lda, static_cast<std::size_t>(depth));
            if (depth % 2 != 0) values[r * lda + depth] = 0;
          });
        } else {
          constexpr std::size_t kChunk = 16 * 1024;
          parallel_for(pool, static_cast<int>((span + kChunk - 1) / kChunk), 1.0 * span, [&](int task) {
            const std::size_t begin = task * kChunk;
            kernels.to_bf16(a + begin, values + begin, std::min(kChunk, span - begin));
          });
        }
        converted[s].a = values;
        converted[s].lda = static_cast<std::ptrdiff_t>(lda);
        break;
      }
      case Precision::kFloat32: {
        const std::size_t lda = unaliased_lda(segment, depth);
        if (lda == static_cast<std::size_t>(segment.lda)) break;
        float* rows = scratch.floats(lda * segment.rows);
        for (int r = 0; r < segment.rows; ++r) std::memcpy(rows + r * lda, a + r * segment.lda, depth * sizeof(float));
        converted[s].a = rows;
        converted[s].lda = static_cast<std::ptrdiff_t>(lda);
        break;
      }
    }
  }
}

}  // namespace

PackedMatrix::PackedMatrix(int depth, int cols, Precision precision)
    : depth_(depth), cols_(cols), precision_(precision) {
  check(precision != Precision::kInt8 || depth <= kMaxInt8Depth, "an int8 product of depth ", depth,
        " could overflow its 32-bit sums, expected at most ", kMaxInt8Depth);
  const int full = cols / kPanel, rest = cols % kPanel;
  const std::size_t width = static_cast<std::size_t>(full) * kPanel + (rest == 0           ? 0
                                                                       : rest > kHalfPanel ? kPanel
                                                                                           : kHalfPanel);
  const std::size_t elements = width * static_cast<std::size_t>(padded(depth, depth_step(precision)));
  data_ = Buffer((elements * element_bytes(precision) + sizeof(float) - 1) / sizeof(float));
  if (precision == Precision::kInt8) {
    col_scale_ = Buffer(width);
    col_sum_ = Buffer(width);
  }
}

PackedView PackedMatrix::view() const {
  return {data_.data(), depth_, cols_, col_scale_.data(), reinterpret_cast<const int*>(col_sum_.data())};
}

namespace {

// Columns [used][depth] of one panel, `step` of depth side by side. Written in the order of memory: column by column
// is three times slower, and packing is most of the time a model takes to load.
template <typename Element>
void interleave(const std::vector<Element>& columns, int used, int depth, int step, int width, Element* out) {
  for (int k = 0; k < depth; k += step) {
    const int count = std::min(step, depth - k);
    for (int j = 0; j < used; ++j)
      for (int i = 0; i < count; ++i)
        out[static_cast<std::size_t>(k) * width + j * step + i] = columns[static_cast<std::size_t>(j) * depth + k + i];
  }
}

// One column of int8 weights; returns its scale, and its sum through `sum`.
float quantize_column(const float* values, int depth, signed char* out, int* sum) {
  float peak = 0.0f, bad = 0.0f;
  for (int k = 0; k < depth; ++k) {
    peak = std::max(peak, std::fabs(values[k]));
    bad += 0.0f * values[k];  // NaN for a NaN or an infinity: see quantize_row
  }
  *sum = 0;
  if (!(bad == 0.0f) || peak < kSmallestPeak) {
    std::memset(out, 0, static_cast<std::size_t>(depth));
    return bad == 0.0f ? 0.0f : bad;
  }
  const float inverse = 127.0f / peak;
  for (int k = 0; k < depth; ++k) {
    const int q = std::clamp(static_cast<int>(std::lrint(values[k] * inverse)), -127, 127);
    out[k] = static_cast<signed char>(q);
    *sum += q;
  }
  return peak / 127.0f;
}

}  // namespace

void PackedMatrix::pack_panel(int panel, const ReadColumn& column) {
  const int width = panel_width(cols_, panel), used = std::min(width, cols_ - panel * kPanel);
  const int step = depth_step(precision_);
  const std::size_t start = static_cast<std::size_t>(panel) * kPanel * padded(depth_, step);
  const std::size_t depth = static_cast<std::size_t>(depth_);
  std::vector<float> values(used * depth);
  for (int j = 0; j < used; ++j) column(panel * kPanel + j, values.data() + j * depth);
  switch (precision_) {
    case Precision::kFloat32: interleave(values, used, depth_, step, width, data_.data() + start); break;
    case Precision::kBFloat16: {
      std::vector<std::uint16_t> halves(values.size());
      for (std::size_t i = 0; i < values.size(); ++i) halves[i] = to_bf16(values[i]);
      interleave(halves, used, depth_, step, width, reinterpret_cast<std::uint16_t*>(data_.data()) + start);
      break;
    }
    case Precision::kInt8: {
      std::vector<signed char> quantized(values.size());
      int* sums = reinterpret_cast<int*>(col_sum_.data()) + panel * kPanel;
      for (int j = 0; j < used; ++j)
        col_scale_[panel * kPanel + j] =
            quantize_column(values.data() + j * depth, depth_, quantized.data() + j * depth, sums + j);
      interleave(quantized, used, depth_, step, width, reinterpret_cast<signed char*>(data_.data()) + start);
      break;
    }
  }
}

PackedMatrix PackedMatrix::from_columns(Pool& pool, int depth, int cols, const ReadColumn& column,
                                        Precision precision) {
  PackedMatrix out(depth, cols, precision);
  parallel_for(pool, out.panels(), 4.0 * depth * cols, [&](int panel) { out.pack_panel(panel, column); });
  return out;
}

PackedMatrix PackedMatrix::from_outputs(Pool& pool, int depth, int cols, const ReadFloats& read, Precision precision) {
  return from_columns(
      pool, depth, cols, [&](int j, float* out) { read(static_cast<std::size_t>(j) * depth, depth, out); }, precision);
}

void gemm(const KernelTable& kernels, Pool& pool, Scratch& scratch, const GemmSegment* segments, int count,
          const PackedMatrix& weights, const Epilogue& epilogue) {
  const int depth = weights.depth(), cols = weights.cols(), panels = weights.panels();
  int rows = 0;
  for (int s = 0; s < count; ++s) rows += segments[s].rows;
  if (rows == 0 || panels == 0) return;

  const Scratch::Mark mark(scratch);
  KernelTable::Gemm kernel = kernels.gemm_float32;
  if (weights.precision() == Precision::kInt8) kernel = kernels.gemm_int8;
  if (weights.precision() == Precision::kBFloat16) kernel = kernels.gemm_bf16;
  if (weights.precision() != Precision::kFloat32 || any_aliasing(segments, count, depth)) {
    auto* converted = scratch.of<GemmSegment>(static_cast<std::size_t>(count));
    convert_rows(kernels, pool, scratch, segments, count, weights, converted);
    segments = converted;
  }

  const int row_block = std::max<int>(
      kMinRowBlock, static_cast<int>(std::min<std::size_t>(kRowBlockFloats / std::max(1, depth), 1 << 20)));
  const int row_blocks = (rows + row_block - 1) / row_block;
  const std::size_t panel_bytes =
      static_cast<std::size_t>(kPanel) * std::max(1, depth) * element_bytes(weights.precision());
  int panels_per_task = std::clamp<int>(static_cast<int>(kChunkBytes / panel_bytes), 1, panels);
  // A small matrix over many rows is compute bound: let every core have a few tasks.
  if (rows > 8 && pool.threads() > 1) {
    const int wanted = 4 * pool.threads();
    const int per_row_block = (wanted + row_blocks - 1) / row_blocks;
    panels_per_task = std::max(1, std::min(panels_per_task, (panels + per_row_block - 1) / per_row_block));
  }
  const int panel_tasks = (panels + panels_per_task - 1) / panels_per_task;

  const PackedView view = weights.view();
  const double work = 2.0 * rows * depth * cols;
  parallel_for(pool, row_blocks * panel_tasks, work, [&](int task) {
    const int first_row = task / panel_tasks * row_block;
    const int last_row = std::min(rows, first_row + row_block);
    const int first_panel = task % panel_tasks * panels_per_task;
    const int last_panel = std::min(panels, first_panel + panels_per_task);
    int start = 0;
    for (int s = 0; s < count; ++s) {
      const int begin = std::max(first_row, start) - start;
      const int end = std::min(last_row, start + segments[s].rows) - start;
      if (begin < end) kernel(&segments[s], begin, end, &view, first_panel, last_panel, &epilogue);
      start += segments[s].rows;
    }
  });
}

}  // namespace ptts
