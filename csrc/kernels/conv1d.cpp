#include "kernels/conv1d.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace ptts {
namespace {
constexpr std::size_t kCopyChunk = 16 * 1024;  // floats of a copy task
}

Conv1d::Conv1d(Pool& pool, const Conv1dShape& shape, const Buffer& weight, Buffer bias, Precision precision)
    : shape_(shape), bias_(std::move(bias)) {
  check(pad() >= 0, "conv1d kernel ", shape.kernel, " is smaller than its stride ", shape.stride);
  const int in = shape.in, kernel = shape.kernel;
  const auto column = [&](int j, float* out) {
    const float* taps = weight.data() + static_cast<std::size_t>(j) * in * kernel;
    for (int channel = 0; channel < in; ++channel)
      for (int tap = 0; tap < kernel; ++tap) out[tap * in + channel] = taps[channel * kernel + tap];
  };
  matrix_ = PackedMatrix::from_columns(pool, kernel * in, shape.out, column, precision);
}

void Conv1d::step(const KernelTable& kernels, Pool& pool, Scratch& scratch, const float* x, const int* counts,
                  int streams, Conv1dState* const* states, float* y, const Fused& fused) const {
  const Scratch::Mark mark(scratch);
  const int in = shape_.in, history = pad();
  const std::size_t history_floats = static_cast<std::size_t>(history) * in;
  const bool direct = history == 0 && fused.before == Activation::kNone;
  auto* segments = scratch.of<GemmSegment>(static_cast<std::size_t>(streams));
  const float* x_at = x;
  float* y_at = y;
  const float* residual_at = fused.residual;

  for (int s = 0; s < streams; ++s) {
    const std::size_t floats = static_cast<std::size_t>(counts[s]) * in;
    const int rows = counts[s] / shape_.stride;
    const float* rows_at = x_at;
    if (!direct) {
      float* joined = scratch.floats(history_floats + floats);
      float* chunk = joined + history_floats;
      const int tasks = static_cast<int>((floats + kCopyChunk - 1) / kCopyChunk);
      parallel_for(pool, tasks, fused.before == Activation::kNone ? 0.25 * floats : 16.0 * floats, [&](int task) {
        const std::size_t begin = task * kCopyChunk;
        kernels.activate(fused.before, x_at + begin, chunk + begin, std::min(kCopyChunk, floats - begin));
      });
      Conv1dState& state = *states[s];
      if (shape_.padding == Padding::kReplicate && state.first && counts[s] > 0)
        for (int r = 0; r < history; ++r)
          std::memcpy(state.history.data() + static_cast<std::size_t>(r) * in, chunk, in * sizeof(float));
      state.first = state.first && counts[s] == 0;
      if (history > 0) {
        std::memcpy(joined, state.history.data(), history_floats * sizeof(float));
        std::memcpy(state.history.data(), joined + floats, history_floats * sizeof(float));
      }
      rows_at = joined;
    }
    std::ptrdiff_t lda = static_cast<std::ptrdiff_t>(shape_.stride) * in;
    if (shape_.dilation > 1) {
      const std::size_t depth = static_cast<std::size_t>(shape_.kernel) * in;
      float* gathered = scratch.floats(depth * rows);
      for (int r = 0; r < rows; ++r)
        for (int tap = 0; tap < shape_.kernel; ++tap)
          std::memcpy(gathered + r * depth + static_cast<std::size_t>(tap) * in,
                      rows_at + r * lda + static_cast<std::ptrdiff_t>(tap) * shape_.dilation * in, in * sizeof(float));
      rows_at = gathered;
      lda = static_cast<std::ptrdiff_t>(depth);
    }
    segments[s] = {rows_at, lda, rows, y_at, shape_.out, residual_at, shape_.out};
    x_at += floats;
    y_at += static_cast<std::size_t>(rows) * shape_.out;
    if (residual_at != nullptr) residual_at += static_cast<std::size_t>(rows) * shape_.out;
  }
  const Epilogue epilogue{bias_.empty() ? nullptr : bias_.data(), nullptr, fused.after};
  gemm(kernels, pool, scratch, segments, streams, matrix_, epilogue);
}

}  // namespace ptts
