// What this machine offers: instruction sets, and how many cores this process may use.
#pragma once

#include <string>
#include <vector>

namespace ptts {

struct CpuFeatures {
  bool avx2_fma = false;     // AVX2, FMA and operating-system support for ymm registers
  bool avx512 = false;       // AVX-512 F, BW, DQ, VL and operating-system support for zmm registers
  bool avx512_vnni = false;  // and VNNI
  bool avx512_bf16 = false;  // and BF16
};

const CpuFeatures& cpu_features();

// Cores in this process's affinity mask, lowered by a cgroup CPU quota (rounded up); at least 1.
int usable_cores();

// The two facts behind usable_cores(): mask size, and the quota in cores (0 when there is none).
int affinity_cores();
double cgroup_quota();

}  // namespace ptts
