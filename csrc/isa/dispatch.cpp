#include "isa/dispatch.h"

#include <cstdlib>

#include "base/check.h"
#include "base/cpu.h"

namespace ptts {
namespace {

struct Row {
  const char* name;
  const KernelTable* (*table)();
  bool (*runs)();
};

// Worst to best. A new instruction set is one row here, one line in CMakeLists.txt, one Vec header.
const Row kRows[] = {
    {"scalar", kernel_table_scalar, [] { return true; }},
#if defined(PTTS_HAVE_AVX2)
    {"avx2", kernel_table_avx2, [] { return cpu_features().avx2_fma; }},
#endif
#if defined(PTTS_HAVE_AVX512)
    {"avx512", kernel_table_avx512, [] { return cpu_features().avx512; }},
    {"avx512_vnni", kernel_table_avx512_vnni, [] { return cpu_features().avx512_vnni; }},
    {"avx512_bf16", kernel_table_avx512_bf16, [] { return cpu_features().avx512_bf16; }},
#endif
#if defined(PTTS_HAVE_NEON)
    {"neon", kernel_table_neon, [] { return true; }},
#endif
};

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

}  // namespace

std::vector<std::string> compiled_isas() {
  std::vector<std::string> out;
  for (const Row& row : kRows) out.emplace_back(row.name);
  return out;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> out;
  for (const Row& row : kRows)
    if (row.runs()) out.emplace_back(row.name);
  return out;
}

const KernelTable& kernels_for(const std::string& name) {
  for (const Row& row : kRows)
    if (name == row.name && row.runs()) return *row.table();
  fail("the instruction set '", name, "' cannot run here: use one of ", joined(available_isas()),
       " (set by POCKETTTS_FAST_ISA)");
}

const KernelTable& active_kernels() {
  const char* forced = std::getenv("POCKETTTS_FAST_ISA");
  if (forced != nullptr && forced[0] != '\0') return kernels_for(forced);
  return kernels_for(available_isas().back());
}

}  // namespace ptts
