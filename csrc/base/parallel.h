// A small pool and its one entry, parallel_for.
//
// A pool of `threads` means: at most that many threads compute at once, callers included. Every
// stage call holds a Caller for its duration; parallel_for gets helpers only while callers and busy
// helpers leave cores free. So a language model and a codec that run side by side on two cores never
// oversubscribe them, and whichever runs alone gets the other core.
//
// Tasks split outputs and never a sum, so results do not depend on who ran them.
// After fork() the child starts its own workers at the first use.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace ptts {

class Pool {
 public:
  // Throws std::invalid_argument unless 1 <= threads <= 1024.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // Marks the calling thread as computing.
  class Caller {
   public:
    explicit Caller(Pool& pool) : pool_(pool) { pool_.active_.fetch_add(1); }
    ~Caller() { pool_.active_.fetch_sub(1); }
    Caller(const Caller&) = delete;
    Caller& operator=(const Caller&) = delete;

   private:
    Pool& pool_;
  };

  // Calls task(context, i) for i in [0, count), on this thread and on idle helpers; returns when all
  // are done. Tasks must not throw.
  void run(int count, void (*task)(void*, int), void* context);

 private:
  struct Job;
  // The helpers of one process and what they sleep on. A forked child abandons its parent's copy unseen:
  // destroying it would wait for sleepers that are not there, and a handle of an absent thread may be the
  // handle of a new one.
  struct Crew {
    std::condition_variable wake;
    std::vector<std::thread> workers;
  };
  void start_workers();
  void work();

  const int threads_;
  std::atomic<int> active_{0};
  std::atomic<Job*> job_{nullptr};
  std::atomic<std::uint32_t> epoch_{0};
  std::mutex mutex_;
  int sleeping_ = 0;
  bool stop_ = false;
  long owner_pid_ = 0;
  std::unique_ptr<Crew> crew_;
};

// Below this many floating-point operations (or as costly steps) waking a helper costs more than it brings.
constexpr double kSerialWork = 60e3;

// `work` is the rough number of floating-point operations of the whole loop.
template <typename Task>
void parallel_for(Pool& pool, int count, double work, Task&& task) {
  if (work < kSerialWork) {
    for (int i = 0; i < count; ++i) task(i);
    return;
  }
  pool.run(count, [](void* context, int i) { (*static_cast<std::remove_reference_t<Task>*>(context))(i); }, &task);
}

}  // namespace ptts
