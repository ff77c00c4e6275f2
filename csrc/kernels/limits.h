// What this machine can do at best, to judge kernels by: bytes read from memory and operations in registers a second.
//
// Why measured and not from a data sheet: clock, memory and neighbours of a virtual machine are known to nobody else,
// and a share of the limit only means something when both were measured in the same minutes.
#pragma once

#include <vector>

#include "base/parallel.h"
#include "isa/table.h"

namespace ptts {

// GB/s of `passes` passes over a buffer of so many MiB (2^20), each reading every byte once, in the same pieces as a
// large GEMV; the first pass, which warms page tables, is not among them. Large pages where the system gives them.
std::vector<double> read_bandwidth(const KernelTable& kernels, Pool& pool, int megabytes, int passes);

// Multiplications and additions a second in 1e9 (a fused multiply-add counts two) of each slice of a few milliseconds
// for about `seconds`, on all threads of the pool together: independent sums of products, one load for every
// `kTileRows1` or `kDotRows1` products, as in the tiles of a GEMM but from the first-level cache.
std::vector<double> peak_rate(const KernelTable& kernels, Pool& pool, Precision precision, double seconds);

}  // namespace ptts
