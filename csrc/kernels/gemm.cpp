#include "kernels/gemm.h"

#include <algorithm>

namespace ptts {
namespace {

constexpr std::size_t kChunkFloats = 64 * 1024;     // 256 KiB of weights a task: less cost bandwidth
constexpr std::size_t kRowBlockFloats = 128 * 1024;  // rows of a block stay in a 1 MiB second-level cache
constexpr int kMinRowBlock = 48;

int panel_width(int cols, int panel) {
  return cols - panel * kPanel > kHalfPanel ? kPanel : kHalfPanel;
}

}  // namespace

PackedMatrix::PackedMatrix(int depth, int cols) : depth_(depth), cols_(cols) {
  const int full = cols / kPanel, rest = cols % kPanel;
  const std::size_t width =
      static_cast<std::size_t>(full) * kPanel + (rest == 0 ? 0 : rest > kHalfPanel ? kPanel : kHalfPanel);
  data_ = Buffer(width * static_cast<std::size_t>(depth));
}

PackedMatrix PackedMatrix::from_outputs(Pool& pool, int depth, int cols, const ReadFloats& read) {
  PackedMatrix out(depth, cols);
  constexpr int kBlock = 256;
  parallel_for(pool, out.panels(), 4.0 * depth * cols, [&](int panel) {
    const int width = panel_width(cols, panel), used = std::min(width, cols - panel * kPanel);
    float* base = out.data_.data() + static_cast<std::size_t>(panel) * kPanel * depth;
    float block[kPanel][kBlock];
    for (int k0 = 0; k0 < depth; k0 += kBlock) {
      const int count = std::min(kBlock, depth - k0);
      for (int j = 0; j < used; ++j)
        read(static_cast<std::size_t>(panel * kPanel + j) * depth + k0, count, block[j]);
      for (int k = 0; k < count; ++k)
        for (int j = 0; j < used; ++j) base[static_cast<std::size_t>(k0 + k) * width + j] = block[j][k];
    }
  });
  return out;
}

PackedMatrix PackedMatrix::from_elements(int depth, int cols, const std::function<float(int, int)>& element) {
  PackedMatrix out(depth, cols);
  for (int panel = 0; panel < out.panels(); ++panel) {
    const int width = panel_width(cols, panel), used = std::min(width, cols - panel * kPanel);
    float* base = out.data_.data() + static_cast<std::size_t>(panel) * kPanel * depth;
    for (int k = 0; k < depth; ++k)
      for (int j = 0; j < used; ++j) base[static_cast<std::size_t>(k) * width + j] = element(k, panel * kPanel + j);
  }
  return out;
}

void gemm(const KernelTable& kernels, Pool& pool, const GemmSegment* segments, int count,
          const PackedMatrix& weights, const Epilogue& epilogue) {
  const int depth = weights.depth(), cols = weights.cols(), panels = weights.panels();
  int rows = 0;
  for (int s = 0; s < count; ++s) rows += segments[s].rows;
  if (rows == 0 || panels == 0) return;

  const int row_block = std::max<int>(
      kMinRowBlock, static_cast<int>(std::min<std::size_t>(kRowBlockFloats / std::max(1, depth), 1 << 20)));
  const int row_blocks = (rows + row_block - 1) / row_block;
  int panels_per_task = std::clamp<int>(
      static_cast<int>(kChunkFloats / (static_cast<std::size_t>(kPanel) * std::max(1, depth))), 1, panels);
  // A small matrix over many rows is compute bound: let every core have a few tasks.
  if (rows > 8 && pool.threads() > 1) {
    const int wanted = 4 * pool.threads();
    const int per_row_block = (wanted + row_blocks - 1) / row_blocks;
    panels_per_task = std::max(1, std::min(panels_per_task, (panels + per_row_block - 1) / per_row_block));
  }
  const int panel_tasks = (panels + panels_per_task - 1) / panels_per_task;

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
      if (begin < end)
        kernels.gemm(&segments[s], begin, end, weights.data(), depth, cols, first_panel, last_panel, &epilogue);
      start += segments[s].rows;
    }
  });
}

}  // namespace ptts
