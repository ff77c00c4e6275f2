#include "base/cpu.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if (defined(__x86_64__) || defined(_M_X64)) && !defined(_MSC_VER)
#include <cpuid.h>
#elif defined(_MSC_VER)
#include <intrin.h>
#endif

namespace ptts {
namespace {

#if defined(__x86_64__) || defined(_M_X64)

void cpuid(unsigned leaf, unsigned subleaf, unsigned out[4]) {
#if defined(_MSC_VER)
  int regs[4];
  __cpuidex(regs, static_cast<int>(leaf), static_cast<int>(subleaf));
  for (int i = 0; i < 4; ++i) out[i] = static_cast<unsigned>(regs[i]);
#else
  __cpuid_count(leaf, subleaf, out[0], out[1], out[2], out[3]);
#endif
}

unsigned long long xcr0() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<unsigned long long>(high) << 32) | low;
#endif
}

CpuFeatures detect() {
  CpuFeatures out;
  unsigned r[4];
  cpuid(0, 0, r);
  const unsigned max_leaf = r[0];
  cpuid(1, 0, r);
  const bool fma = r[2] & (1u << 12), osxsave = r[2] & (1u << 27), avx = r[2] & (1u << 28);
  if (!osxsave || !avx || max_leaf < 7) return out;
  const unsigned long long state = xcr0();
  cpuid(7, 0, r);
  const unsigned ebx = r[1], ecx = r[2], subleaves = r[0];
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6;
  out.avx2_fma = ymm && fma && (ebx & (1u << 5));
  const unsigned needed = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);  // F DQ BW VL
  out.avx512 = out.avx2_fma && zmm && (ebx & needed) == needed;
  out.avx512_vnni = out.avx512 && (ecx & (1u << 11));
  if (subleaves >= 1) {
    cpuid(7, 1, r);
    out.avx512_bf16 = out.avx512_vnni && (r[0] & (1u << 5));
  }
  return out;
}

#else

CpuFeatures detect() { return {}; }

#endif

#if defined(__linux__)

std::string own_cgroup(const std::string& controller) {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (controllers == controller || ("," + controllers + ",").find("," + controller + ",") != std::string::npos)
      return line.substr(second + 1);
  }
  return "/";
}

// A limit may sit on any ancestor: the smallest on the way up counts.
template <typename Read>
double smallest_quota(const std::string& root, std::string path, Read read) {
  double best = 0;
  for (;;) {
    const double quota = read(root + (path == "/" ? "" : path));
    if (quota > 0 && (best == 0 || quota < best)) best = quota;
    if (path.empty() || path == "/") return best;
    const auto slash = path.rfind('/');
    path = slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
  }
}

double read_v2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  return std::atof(quota.c_str()) / period;
}

double read_v1(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us"), period_file(folder + "/cpu.cfs_period_us");
  double quota = 0, period = 0;
  if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0 || period <= 0) return 0;
  return quota / period;
}

#endif

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

int affinity_cores() {
#if defined(__linux__)
  // The mask can be larger than cpu_set_t on big machines: grow until the kernel accepts the size.
  for (int cpus = 1024; cpus <= (1 << 18); cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(cpus);
    if (set == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    const int status = sched_getaffinity(0, bytes, set);
    const int count = status == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

double cgroup_quota() {
#if defined(__linux__)
  const double v2 = smallest_quota("/sys/fs/cgroup", own_cgroup(""), read_v2);
  if (v2 > 0) return v2;
  return smallest_quota("/sys/fs/cgroup/cpu", own_cgroup("cpu"), read_v1);
#else
  return 0;
#endif
}

int usable_cores() {
  const int cores = affinity_cores();
  const double quota = cgroup_quota();
  if (quota <= 0) return cores;
  return std::max(1, std::min(cores, static_cast<int>(std::ceil(quota))));
}

}  // namespace ptts
