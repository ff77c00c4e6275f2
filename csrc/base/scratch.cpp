#include "base/scratch.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "base/buffer.h"

namespace ptts {
namespace {
std::atomic<std::size_t> g_allocations{0};
constexpr std::size_t kSmallestChunk = 64 * 1024;  // floats
}  // namespace

// A chain of chunks: taking more never moves what was taken before.
class Arena {
 public:
  float* take(std::size_t count) {
    count = (count + 15) / 16 * 16;
    while (chunk_ < chunks_.size() && used_ + count > chunks_[chunk_].size()) {
      ++chunk_;
      used_ = 0;
    }
    if (chunk_ == chunks_.size()) grow(std::max(count, kSmallestChunk));
    float* out = chunks_[chunk_].data() + used_;
    used_ += count;
    std::size_t in_use = used_;
    for (std::size_t i = 0; i < chunk_; ++i) in_use += chunks_[i].size();
    peak_ = std::max(peak_, in_use);
    return out;
  }

  // Between calls the chain becomes one chunk of the high-water size: the next call walks contiguous memory.
  void settle() {
    if (chunks_.size() > 1) {
      chunks_.clear();
      grow(peak_);
    }
    chunk_ = 0;
    used_ = 0;
  }

  std::size_t chunk_ = 0, used_ = 0;

 private:
  void grow(std::size_t count) {
    chunks_.emplace_back(count, Buffer::Fill::kUndefined);
    g_allocations.fetch_add(1, std::memory_order_relaxed);
    used_ = 0;
  }

  std::size_t peak_ = 0;
  std::vector<Buffer> chunks_;
};

namespace {

struct FreeList {
  std::mutex mutex;
  std::vector<std::unique_ptr<Arena>> arenas;
};

// Leaked on purpose: threads may still give arenas back while the process exits.
FreeList& free_list() {
  static FreeList* list = new FreeList;
  return *list;
}

// A mutex copied by fork() while another thread held it never opens in the child. The list is held
// for nanoseconds, so giving up after a while costs one arena and cannot hang.
std::unique_lock<std::mutex> lock_briefly(std::mutex& mutex) {
  std::unique_lock<std::mutex> lock(mutex, std::defer_lock);
  for (int tries = 0; tries < 1000 && !lock.try_lock(); ++tries) std::this_thread::yield();
  return lock;
}

}  // namespace

Scratch::Scratch() {
  FreeList& list = free_list();
  const auto lock = lock_briefly(list.mutex);
  if (!lock.owns_lock() || list.arenas.empty()) {
    arena_ = new Arena;
  } else {
    arena_ = list.arenas.back().release();
    list.arenas.pop_back();
  }
}

Scratch::~Scratch() {
  std::unique_ptr<Arena> arena(arena_);
  try {
    arena->settle();
    FreeList& list = free_list();
    const auto lock = lock_briefly(list.mutex);
    if (lock.owns_lock()) list.arenas.push_back(std::move(arena));
  } catch (const std::bad_alloc&) {
    // The arena is dropped; the next call starts a new one.
  }
}

float* Scratch::floats(std::size_t count) { return arena_->take(count); }

Scratch::Mark::Mark(Scratch& scratch)
    : scratch_(scratch), chunk_(scratch.arena_->chunk_), used_(scratch.arena_->used_) {}

Scratch::Mark::~Mark() {
  scratch_.arena_->chunk_ = chunk_;
  scratch_.arena_->used_ = used_;
}

std::size_t scratch_allocations() { return g_allocations.load(std::memory_order_relaxed); }

}  // namespace ptts
