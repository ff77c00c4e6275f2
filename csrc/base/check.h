// Errors made at the edge of the core. Kernels below this line trust their arguments.
#pragma once

#include <sstream>
#include <stdexcept>

namespace ptts {

// Throws std::invalid_argument with the streamed message; the bindings turn it into ValueError.
template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

template <typename... Parts>
void check(bool condition, const Parts&... parts) {
  if (!condition) fail(parts...);
}

}  // namespace ptts
