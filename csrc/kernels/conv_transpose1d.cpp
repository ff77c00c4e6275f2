#include "kernels/conv_transpose1d.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace ptts {

ConvTranspose1d::ConvTranspose1d(Pool& pool, const ConvTransposeShape& shape, const Buffer& weight, Buffer bias,
                                 Precision precision)
    : shape_(shape), bias_(std::move(bias)) {
  check(shape.kernel >= shape.stride, "transposed conv1d kernel ", shape.kernel, " is smaller than its stride ",
        shape.stride);
  if (bias_.empty()) bias_ = Buffer(static_cast<std::size_t>(shape.out));
  const int out = shape.out, kernel = shape.kernel;
  const auto column = [&](int j, float* values) {
    const int tap = j / out, channel = j % out;
    for (int i = 0; i < shape_.in; ++i)
      values[i] = weight[(static_cast<std::size_t>(i) * out + channel) * kernel + tap];
  };
  matrix_ = PackedMatrix::from_columns(pool, shape.in, kernel * out, column, precision);
}

void ConvTranspose1d::step(const KernelTable& kernels, Pool& pool, Scratch& scratch, Activation before, const float* x,
                           const int* counts, int streams, ConvTransposeState* const* states, float* y) const {
  const Scratch::Mark mark(scratch);
  int rows = 0;
  for (int s = 0; s < streams; ++s) rows += counts[s];
  const std::size_t floats = static_cast<std::size_t>(rows) * shape_.in;
  if (before != Activation::kNone) {
    float* activated = scratch.floats(floats);
    constexpr std::size_t kChunk = 16 * 1024;
    parallel_for(pool, static_cast<int>((floats + kChunk - 1) / kChunk), 16.0 * floats, [&](int task) {
      const std::size_t begin = task * kChunk;
      kernels.activate(before, x + begin, activated + begin, std::min(kChunk, floats - begin));
    });
    x = activated;
  }
  const int width = shape_.kernel * shape_.out;
  float* products = scratch.floats(static_cast<std::size_t>(rows) * width);
  const GemmSegment segment{x, shape_.in, rows, products, width, nullptr, 0};
  gemm(kernels, pool, scratch, &segment, 1, matrix_, Epilogue());
  for (int s = 0; s < streams; ++s) {
    overlap_add(kernels, pool, scratch, products, counts[s], *states[s], y);
    products += static_cast<std::size_t>(counts[s]) * width;
    y += static_cast<std::size_t>(counts[s]) * shape_.stride * shape_.out;
  }
}

void ConvTranspose1d::overlap_add(const KernelTable& kernels, Pool& pool, Scratch& scratch, const float* products,
                                  int rows, ConvTransposeState& state, float* y) const {
  if (rows == 0) return;
  const std::size_t out = static_cast<std::size_t>(shape_.out);
  const std::size_t block = shape_.stride * out;  // floats one input row advances the output by
  const std::size_t width = shape_.kernel * out;
  if (shape_.kernel == 2 * shape_.stride) {
    parallel_for(pool, rows, 3.0 * rows * block, [&](int t) {
      const float* older = t == 0 ? state.tail.data() : products + (t - 1) * width + block;
      kernels.overlap_add(older, products + t * width, bias_.data(), out, y + t * block, block);
    });
    std::memcpy(state.tail.data(), products + (rows - 1) * width + block, block * sizeof(float));
    return;
  }
  // Any kernel: sums over [tail | new rows], then the last kernel - stride rows go back to the state.
  const std::size_t tail = width - block, total = rows * block + tail;
  float* sums = scratch.floats(total);
  if (tail > 0) std::memcpy(sums, state.tail.data(), tail * sizeof(float));
  std::memset(sums + tail, 0, (total - tail) * sizeof(float));
  for (int t = 0; t < rows; ++t) kernels.add(products + t * width, sums + t * block, width);
  if (tail > 0) std::memcpy(state.tail.data(), sums + rows * block, tail * sizeof(float));
  for (std::size_t i = 0; i < rows * block; i += out) {
    std::memcpy(y + i, sums + i, out * sizeof(float));
    kernels.add(bias_.data(), y + i, out);
  }
}

DepthwiseUpsample::DepthwiseUpsample(int channels, int stride, const Buffer& weight)
    : channels_(channels), stride_(stride), weight_(static_cast<std::size_t>(2 * stride) * channels) {
  for (int c = 0; c < channels; ++c)
    for (int tap = 0; tap < 2 * stride; ++tap)
      weight_[static_cast<std::size_t>(tap) * channels + c] = weight[static_cast<std::size_t>(c) * 2 * stride + tap];
}

void DepthwiseUpsample::step(const KernelTable& kernels, const float* x, const int* counts, int streams,
                             ConvTransposeState* const* states, float* y) const {
  for (int s = 0; s < streams; ++s) {
    for (int t = 0; t < counts[s]; ++t) {
      kernels.depthwise_upsample(x, weight_.data(), stride_, channels_, states[s]->tail.data(), y);
      x += channels_;
      y += static_cast<std::size_t>(stride_) * channels_;
    }
  }
}

}  // namespace ptts
