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

// A mutex copied by fork() while another thread held it never opens in the child. A pool is held for
// nanoseconds, so giving up after a while costs one arena and cannot hang.
std::unique_lock<std::mutex> lock_briefly(std::mutex& mutex) {
  std::unique_lock<std::mutex> lock(mutex, std::defer_lock);
  for (int tries = 0; tries < 1000 && !lock.try_lock(); ++tries) std::this_thread::yield();
  return lock;
}

}  // namespace

ArenaPool::ArenaPool() = default;
ArenaPool::~ArenaPool() = default;

std::unique_ptr<Arena> ArenaPool::take() {
  const auto lock = lock_briefly(mutex_);
  if (!lock.owns_lock() || arenas_.empty()) return std::make_unique<Arena>();
  std::unique_ptr<Arena> arena = std::move(arenas_.back());
  arenas_.pop_back();
  return arena;
}

void ArenaPool::give(std::unique_ptr<Arena> arena) {
  try {
    arena->settle();
    const auto lock = lock_briefly(mutex_);
    if (lock.owns_lock()) arenas_.push_back(std::move(arena));
  } catch (const std::bad_alloc&) {
    // The arena is dropped; the next call starts a new one.
  }
}

Scratch::Scratch(ArenaPool& pool) : pool_(pool), arena_(pool.take()) {}

Scratch::~Scratch() { pool_.give(std::move(arena_)); }

float* Scratch::floats(std::size_t count) { return arena_->take(count); }

Scratch::Mark::Mark(Scratch& scratch)
    : scratch_(scratch), chunk_(scratch.arena_->chunk_), used_(scratch.arena_->used_) {}

Scratch::Mark::~Mark() {
  scratch_.arena_->chunk_ = chunk_;
  scratch_.arena_->used_ = used_;
}

std::size_t scratch_allocations() { return g_allocations.load(std::memory_order_relaxed); }

}  // namespace ptts
