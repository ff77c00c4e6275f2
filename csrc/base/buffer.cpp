#include "base/buffer.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ptts {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kHugeFrom = std::size_t{1} << 20;

void* allocate_aligned(std::size_t bytes, std::size_t alignment) {
#if defined(_WIN32)
  return _aligned_malloc(bytes, alignment);
#else
  void* out = nullptr;
  return posix_memalign(&out, alignment, bytes) == 0 ? out : nullptr;
#endif
}

void free_aligned(void* pointer) {
#if defined(_WIN32)
  _aligned_free(pointer);
#else
  std::free(pointer);
#endif
}

}  // namespace

Buffer::Buffer(std::size_t count, Fill fill) : count_(count) {
  if (count == 0) return;
  if (count > static_cast<std::size_t>(-1) / (2 * sizeof(float))) throw std::bad_alloc();
  const std::size_t bytes = (count * sizeof(float) + kLine - 1) / kLine * kLine;
  const bool huge = bytes >= kHugeFrom;
  data_ = static_cast<float*>(allocate_aligned(bytes, huge ? kHugePage : kLine));
  if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (huge) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  if (fill == Fill::kZeros) std::memset(data_, 0, bytes);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(count_, other.count_);
  return *this;
}

Buffer::~Buffer() { free_aligned(data_); }

Buffer Buffer::copy() const {
  Buffer out(count_, Fill::kUndefined);
  if (count_ != 0) std::memcpy(out.data_, data_, count_ * sizeof(float));
  return out;
}

}  // namespace ptts
