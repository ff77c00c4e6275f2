/* What tools/instruction_budget.py measures with: marks for callgrind, and a count of allocations.

   Loaded with ctypes, only the marks do something, and only under callgrind. Preloaded (LD_PRELOAD), malloc and its
   kin are these functions, which count while counting is on and pass on to glibc. */
#include <errno.h>
#include <stddef.h>

#if defined(__has_include)
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#endif
#endif

void budget_start(void) {
#ifdef CALLGRIND_START_INSTRUMENTATION
  CALLGRIND_START_INSTRUMENTATION;
#endif
}

void budget_zero(void) {
#ifdef CALLGRIND_ZERO_STATS
  CALLGRIND_ZERO_STATS;
#endif
}

void budget_dump(const char* name) {
#ifdef CALLGRIND_DUMP_STATS_AT
  CALLGRIND_DUMP_STATS_AT(name);
#else
  (void)name;
#endif
}

/* Data of any frame is larger than this, lists of arguments and shapes are smaller. */
enum { kLarge = 512 };

static int counting;
static long small, large;

void budget_count(int on) {
  if (on) {
    __atomic_store_n(&small, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&large, 0, __ATOMIC_SEQ_CST);
  }
  __atomic_store_n(&counting, on, __ATOMIC_SEQ_CST);
}

long budget_small_allocations(void) { return __atomic_load_n(&small, __ATOMIC_SEQ_CST); }
long budget_large_allocations(void) { return __atomic_load_n(&large, __ATOMIC_SEQ_CST); }

static void note(size_t size) {
  if (__atomic_load_n(&counting, __ATOMIC_RELAXED))
    __atomic_fetch_add(size < kLarge ? &small : &large, 1, __ATOMIC_RELAXED);
}

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);

void* malloc(size_t size) {
  note(size);
  return __libc_malloc(size);
}

void* calloc(size_t count, size_t size) {
  note(count * size);
  return __libc_calloc(count, size);
}

void* realloc(void* old, size_t size) {
  note(size);
  return __libc_realloc(old, size);
}

void* memalign(size_t alignment, size_t size) {
  note(size);
  return __libc_memalign(alignment, size);
}

void* aligned_alloc(size_t alignment, size_t size) {
  note(size);
  return __libc_memalign(alignment, size);
}

int posix_memalign(void** out, size_t alignment, size_t size) {
  note(size);
  void* memory = __libc_memalign(alignment, size);
  if (memory == NULL) return ENOMEM;
  *out = memory;
  return 0;
}
