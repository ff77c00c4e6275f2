// Which kernel table this process uses.
#pragma once

#include <string>
#include <vector>

#include "isa/table.h"

namespace ptts {

// Instruction sets that were compiled in and that this processor runs, best last.
std::vector<std::string> available_isas();

// All sets compiled into this build.
std::vector<std::string> compiled_isas();

// The best available set, or the one named by POCKETTTS_FAST_ISA. Throws std::invalid_argument with the
// list of sets that can run when that name cannot.
const KernelTable& active_kernels();

// The named set; throws like active_kernels().
const KernelTable& kernels_for(const std::string& name);

}  // namespace ptts
