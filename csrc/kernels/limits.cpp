#include "kernels/limits.h"

#include <algorithm>
#include <chrono>
#include <cstddef>

#include "base/buffer.h"
#include "base/check.h"

namespace ptts {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kChunkFloats = 64 * 1024;  // 256 KiB, as in gemm.cpp
constexpr double kSliceSeconds = 2e-3;
constexpr std::size_t kLine = 16;  // floats of a cache line

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

std::vector<double> read_bandwidth(const KernelTable& kernels, Pool& pool, int megabytes, int passes) {
  check(megabytes >= 1 && megabytes <= (1 << 20), "megabytes must be between 1 and 1048576, got ", megabytes);
  check(passes >= 1 && passes <= 10000, "passes must be between 1 and 10000, got ", passes);
  const std::size_t floats = static_cast<std::size_t>(megabytes) << 18;
  const int chunks = static_cast<int>(floats / kChunkFloats);
  Buffer memory(floats, Buffer::Fill::kUndefined);
  std::fill_n(memory.data(), floats, 1.0f);  // pages that were never written share one page of zeros, in the cache
  Buffer sums(static_cast<std::size_t>(chunks) * kLine);
  auto read = [&](int i) { sums[i * kLine] = kernels.read_floats(memory.data() + i * kChunkFloats, kChunkFloats); };
  std::vector<double> out;
  for (int pass = 0; pass <= passes; ++pass) {
    const Clock::time_point start = Clock::now();
    parallel_for(pool, chunks, 1.0 * floats, read);
    const double seconds = since(start);
    if (pass > 0) out.push_back(floats * sizeof(float) / seconds / 1e9);
  }
  return out;
}

std::vector<double> peak_rate(const KernelTable& kernels, Pool& pool, Precision precision, double seconds) {
  check(seconds > 0 && seconds <= 600, "seconds must be above 0 and at most 600, got ", seconds);
  Buffer operands(2 * kSpinBytes / sizeof(float));
  std::fill_n(operands.data(), operands.size(), 0.5f);  // with zeros, some processors save power and clock higher
  char* a = reinterpret_cast<char*>(operands.data());
  if (precision == Precision::kInt8) {
    // Steps of alternating sign, so that the int32 sums stay small however long the loop runs.
    constexpr std::size_t kStepBytes = 4 * 16;
    for (std::size_t i = 0; i < kSpinBytes; ++i)
      a[kSpinBytes + i] = static_cast<char>(i / kStepBytes % 2 == 0 ? 63 : -63);
  }
  Buffer results(static_cast<std::size_t>(pool.threads()) * kSpinFloats);
  std::vector<double> operations(static_cast<std::size_t>(pool.threads()));
  int rounds = 1;
  const auto slice = [&] {
    const Clock::time_point start = Clock::now();
    parallel_for(pool, pool.threads(), 1e9, [&](int i) {
      operations[i] = kernels.spin(precision, rounds, a, a + kSpinBytes, results.data() + i * kSpinFloats);
    });
    return since(start);
  };
  while (slice() < kSliceSeconds && rounds < (1 << 28)) rounds *= 2;
  std::vector<double> out;
  const Clock::time_point start = Clock::now();
  do {
    const double took = slice();
    double total = 0;
    for (const double count : operations) total += count;
    out.push_back(total / took / 1e9);
  } while (since(start) < seconds);
  return out;
}

}  // namespace ptts
