#include "base/buffer.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace ptts {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kHugeFrom = std::size_t{1} << 20;

std::size_t whole_lines(std::size_t count) { return (count * sizeof(float) + kLine - 1) / kLine * kLine; }

#if defined(__linux__)

std::size_t whole_pages(std::size_t bytes) {
  static const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

// Large blocks come from the kernel and go back to it: through malloc they would end up in its heap, where a
// freed cache leaves a hole. Aligned to huge pages, with the slack around the block unmapped.
void* map_pages(std::size_t bytes) {
  const std::size_t whole = whole_pages(bytes);
  void* mapped = mmap(nullptr, whole + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  const auto start = reinterpret_cast<std::uintptr_t>(mapped);
  const std::uintptr_t aligned = (start + kHugePage - 1) / kHugePage * kHugePage;
  if (aligned > start) munmap(mapped, aligned - start);
  munmap(reinterpret_cast<void*>(aligned + whole), start + kHugePage - aligned);
  madvise(reinterpret_cast<void*>(aligned), whole, MADV_HUGEPAGE);
  return reinterpret_cast<void*>(aligned);
}

#endif

void* allocate(std::size_t bytes) {
#if defined(_WIN32)
  return _aligned_malloc(bytes, kLine);
#else
#if defined(__linux__)
  if (bytes >= kHugeFrom) return map_pages(bytes);
#endif
  void* out = nullptr;
  return posix_memalign(&out, kLine, bytes) == 0 ? out : nullptr;
#endif
}

void release(void* pointer, std::size_t bytes) {
  if (pointer == nullptr) return;
#if defined(_WIN32)
  _aligned_free(pointer);
#else
#if defined(__linux__)
  if (bytes >= kHugeFrom) {
    munmap(pointer, whole_pages(bytes));
    return;
  }
#endif
  std::free(pointer);
#endif
  (void)bytes;
}

}  // namespace

Buffer::Buffer(std::size_t count, Fill fill) : count_(count) {
  if (count == 0) return;
  if (count > static_cast<std::size_t>(-1) / (2 * sizeof(float))) throw std::bad_alloc();
  const std::size_t bytes = whole_lines(count);
  data_ = static_cast<float*>(allocate(bytes));
  if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  if (bytes >= kHugeFrom) return;  // fresh pages are zero
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

Buffer::~Buffer() { release(data_, whole_lines(count_)); }

Buffer Buffer::copy() const {
  Buffer out(count_, Fill::kUndefined);
  if (count_ != 0) std::memcpy(out.data_, data_, count_ * sizeof(float));
  return out;
}

}  // namespace ptts
