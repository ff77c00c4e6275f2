// What every block call is given: kernels, threads, scratch.
#pragma once

#include "base/parallel.h"
#include "base/scratch.h"
#include "isa/table.h"

namespace ptts {

struct Context {
  const KernelTable& kernels;
  Pool& pool;
  Scratch& scratch;
};

// Rows of several streams, one after the other: stream s has counts[s] rows.
struct Ragged {
  const int* counts = nullptr;
  int streams = 0;

  int total() const {
    int rows = 0;
    for (int s = 0; s < streams; ++s) rows += counts[s];
    return rows;
  }
};

}  // namespace ptts
