// Pooled scratch memory for one stage call.
//
// A Scratch takes an arena from its pool and hands it back at the end of the scope, so memory follows the number
// of calls under way and not the number of threads that ever called. A stage has a pool of its own: its arenas grow
// to what ITS calls need, then stay (a steady stream allocates nothing), and go with it.
// Pointers stay valid until the scope they were taken in ends. Not thread safe: one Scratch, one thread;
// parallel tasks may write to memory taken before they started.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace ptts {

class Arena;

class ArenaPool {
 public:
  ArenaPool();
  ~ArenaPool();
  ArenaPool(const ArenaPool&) = delete;
  ArenaPool& operator=(const ArenaPool&) = delete;

 private:
  friend class Scratch;
  std::unique_ptr<Arena> take();
  void give(std::unique_ptr<Arena> arena);

  std::mutex mutex_;
  std::vector<std::unique_ptr<Arena>> arenas_;
};

class Scratch {
 public:
  explicit Scratch(ArenaPool& pool);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // 64-byte aligned, contents undefined.
  float* floats(std::size_t count);
  template <typename T>
  T* of(std::size_t count) {
    return reinterpret_cast<T*>(floats((count * sizeof(T) + sizeof(float) - 1) / sizeof(float)));
  }

  // Gives back everything taken after the mark when it goes out of scope.
  class Mark {
   public:
    explicit Mark(Scratch& scratch);
    ~Mark();
    Mark(const Mark&) = delete;
    Mark& operator=(const Mark&) = delete;

   private:
    Scratch& scratch_;
    std::size_t chunk_, used_;
  };

 private:
  friend class Mark;
  ArenaPool& pool_;
  std::unique_ptr<Arena> arena_;
};

// Number of times any arena had to ask the system for memory: flat in a steady stream.
std::size_t scratch_allocations();

}  // namespace ptts
