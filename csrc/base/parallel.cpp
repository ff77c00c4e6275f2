#include "base/parallel.h"

#include <system_error>

#include "base/check.h"

#if !defined(_WIN32)
#include <unistd.h>
#else
#include <process.h>
#define getpid _getpid
#endif

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#define PTTS_PAUSE() _mm_pause()
#elif defined(__aarch64__)
#define PTTS_PAUSE() __asm__ __volatile__("yield")
#else
#define PTTS_PAUSE() std::this_thread::yield()
#endif

namespace ptts {

// Lives on the caller's stack. `users` counts helpers inside; the caller waits for zero before it
// returns, and a helper enters only while job_ still points here (under mutex_).
struct Pool::Job {
  void (*task)(void*, int);
  void* context;
  int count;
  std::atomic<int> next{0};
  std::atomic<int> users{0};

  void drain() {
    for (int i = next.fetch_add(1, std::memory_order_relaxed); i < count;
         i = next.fetch_add(1, std::memory_order_relaxed)) {
      task(context, i);
    }
  }
};

namespace {
// A region of a full-size step lasts 50 to 300 us and follows the last one within a few: a helper
// that spins this long is there for the next region, and gives the core away soon after the last.
constexpr int kSpins = 2000;
}  // namespace

Pool::Pool(int threads) : threads_(threads) {
  check(threads >= 1 && threads <= 1024, "threads must be between 1 and 1024, got ", threads);
}

Pool::~Pool() {
  if (owner_pid_ == static_cast<long>(getpid())) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    crew_->wake.notify_all();
    for (std::thread& worker : crew_->workers) worker.join();
  } else {
    static_cast<void>(crew_.release());
  }
}

void Pool::start_workers() {
  const long pid = static_cast<long>(getpid());
  if (owner_pid_ == pid) return;
  // First use in this process, or first use after fork().
  static_cast<void>(crew_.release());
  crew_ = std::make_unique<Crew>();
  sleeping_ = 0;
  job_.store(nullptr);
  owner_pid_ = pid;
  for (int i = 1; i < threads_; ++i) {
    try {
      crew_->workers.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      break;  // Fewer helpers only cost time.
    }
  }
}

void Pool::work() {
  std::uint32_t seen = epoch_.load();
  for (;;) {
    for (int spin = 0; spin < kSpins && epoch_.load(std::memory_order_relaxed) == seen; ++spin) PTTS_PAUSE();
    Job* job = nullptr;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (epoch_.load() == seen && !stop_) {
        ++sleeping_;
        crew_->wake.wait(lock, [&] { return stop_ || epoch_.load() != seen; });
        --sleeping_;
      }
      if (stop_) return;
      seen = epoch_.load();
      job = job_.load();
      if (job == nullptr || active_.load() >= threads_) continue;
      active_.fetch_add(1);
      job->users.fetch_add(1);
    }
    job->drain();
    active_.fetch_sub(1);
    job->users.fetch_sub(1, std::memory_order_release);
  }
}

void Pool::run(int count, void (*task)(void*, int), void* context) {
  if (count <= 0) return;
  if (count == 1 || threads_ == 1 || active_.load(std::memory_order_relaxed) >= threads_) {
    for (int i = 0; i < count; ++i) task(context, i);
    return;
  }
  Job job{task, context, count};
  bool posted = false;
  {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (lock.owns_lock()) {
      start_workers();
      if (job_.load() == nullptr) {
        job_.store(&job);
        epoch_.fetch_add(1);
        posted = true;
        if (sleeping_ > 0) {
          lock.unlock();
          crew_->wake.notify_all();
        }
      }
    }
  }
  job.drain();
  if (posted) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_.store(nullptr);
    }
    for (int spin = 0; job.users.load(std::memory_order_acquire) != 0; ++spin) {
      if (spin < kSpins) {
        PTTS_PAUSE();
      } else {
        std::this_thread::yield();
      }
    }
  }
}

}  // namespace ptts
