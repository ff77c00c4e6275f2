// Threads, instruction sets and counters.
#include "base/cpu.h"
#include "bindings/common.h"

namespace ptts::bindings {

void bind_runtime(py::module_& module) {
  py::class_<Pool, std::shared_ptr<Pool>>(module, "Pool", "A pool of compute threads shared by the stages of a model.")
      .def(py::init<int>(), py::arg("threads"))
      .def_property_readonly("threads", &Pool::threads);
  module.def(
      "active_isa", [] { return std::string(active_kernels().name); },
      "Name of the instruction set in use; ValueError when POCKETTTS_FAST_ISA names one that cannot run.");
  module.def("available_isas", &available_isas, "Compiled sets this processor runs, best last.");
  module.def("compiled_isas", &compiled_isas, "All sets in this build.");
  module.def("cpu_features", [] {
    py::dict out;
    out["avx2_fma"] = cpu_features().avx2_fma;
    out["avx512"] = cpu_features().avx512;
    out["avx512_vnni"] = cpu_features().avx512_vnni;
    out["avx512_bf16"] = cpu_features().avx512_bf16;
    return out;
  });
  module.def("usable_cores", &usable_cores, "Cores of the affinity mask, lowered by a cgroup CPU quota.");
  module.def("affinity_cores", &affinity_cores);
  module.def("cgroup_quota", &cgroup_quota, "CPU quota in cores, 0 when there is none.");
  module.def("scratch_allocations", &scratch_allocations, "How often scratch had to grow; flat in a steady stream.");
}

}  // namespace ptts::bindings
