// The kernels one by one, for their tests and benchmarks. `isa` names the table, `threads` the pool.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <type_traits>

#include "bindings/common.h"
#include "kernels/attention.h"
#include "kernels/conv1d.h"
#include "kernels/conv_transpose1d.h"
#include "kernels/limits.h"

namespace ptts::bindings {
namespace {

Activation activation(const std::string& name) {
  if (name == "none") return Activation::kNone;
  if (name == "elu") return Activation::kElu;
  if (name == "silu") return Activation::kSilu;
  check(name == "gelu_tanh", "unknown activation '", name, "'");
  return Activation::kGeluTanh;
}

Buffer to_buffer(const Floats& array) {
  Buffer out(static_cast<std::size_t>(array.size()));
  std::copy(array.data(), array.data() + array.size(), out.data());
  return out;
}

// A vector of `count` elements, or an empty buffer for None.
Buffer optional_buffer(const py::object& value, const char* what, py::ssize_t count) {
  if (value.is_none()) return Buffer();
  const Floats array = as_floats(value, what, 1);
  check(array.size() == count, what, " has ", array.size(), " elements, expected ", count);
  return to_buffer(array);
}

// A chunk of a stream: [rows, width], rows a multiple of `multiple`.
Floats as_chunk(const py::array& chunk, int width, int multiple) {
  const Floats x = as_floats(chunk, "chunk", 2);
  check(x.shape(1) == width, "chunk is ", x.shape(1), " wide, expected ", width);
  check(x.shape(0) % multiple == 0, "chunk has ", x.shape(0), " rows, which is not a multiple of the stride ",
        multiple);
  return x;
}

// Kernels called one by one share one pool of scratch. Leaked on purpose: calls may outlive static destruction.
ArenaPool& kernel_arenas() {
  static ArenaPool* arenas = new ArenaPool;
  return *arenas;
}

// Packed once, applied many times: what a benchmark needs.
struct PackedLinear {
  std::string isa;
  std::shared_ptr<Pool> pool;
  PackedMatrix matrix;
  Buffer bias, scale;

  PackedLinear(const std::string& isa, int threads, const py::array& weight, const py::object& bias_value,
               const py::object& scale_value, const std::string& kind)
      : isa(isa), pool(std::make_shared<Pool>(threads)) {
    const Floats w = as_floats(weight, "weight", 2);
    const float* data = w.data();
    matrix = PackedMatrix::from_outputs(
        *pool, static_cast<int>(w.shape(1)), static_cast<int>(w.shape(0)),
        [data](std::size_t start, int count, float* out) { std::copy(data + start, data + start + count, out); },
        precision(kind));
    bias = optional_buffer(bias_value, "bias", w.shape(0));
    scale = optional_buffer(scale_value, "scale", w.shape(0));
  }

  Floats apply(const py::array& x, const std::string& act, const py::object& residual) const {
    const Floats in = as_floats(x, "x", 2);
    check(in.shape(1) == matrix.depth(), "x is ", in.shape(1), " wide, the weight ", matrix.depth());
    Floats out = new_floats({in.shape(0), matrix.cols()});
    GemmSegment segment{in.data(), matrix.depth(), static_cast<int>(in.shape(0)), out.mutable_data(), matrix.cols(),
                        nullptr,   matrix.cols()};
    if (!residual.is_none()) {
      const Floats added = as_floats(residual, "residual", 2);
      check(added.shape(0) == in.shape(0) && added.shape(1) == matrix.cols(), "residual is ", added.shape(0), " x ",
            added.shape(1), ", expected ", in.shape(0), " x ", matrix.cols());
      segment.residual = added.data();
    }
    const Epilogue epilogue{bias.empty() ? nullptr : bias.data(), scale.empty() ? nullptr : scale.data(),
                            activation(act)};
    const KernelTable& kernels = kernels_for(isa);
    const py::gil_scoped_release release;
    const Pool::Caller caller(*pool);
    Scratch scratch(kernel_arenas());
    gemm(kernels, *pool, scratch, &segment, 1, matrix, epilogue);
    return out;
  }
};

// One convolution with the state of one stream. `Layer` is Conv1d or ConvTranspose1d.
template <typename Layer, typename State>
struct ConvStream {
  std::string isa;
  std::shared_ptr<Pool> pool;
  Layer layer;
  State state;
  Activation before;

  ConvStream(const std::string& isa, std::shared_ptr<Pool> shared, Layer&& made, const std::string& before)
      : isa(isa),
        pool(std::move(shared)),
        layer(std::move(made)),
        state(layer.new_state()),
        before(activation(before)) {}

  static int rows_out(const Conv1dShape& shape, py::ssize_t rows) { return static_cast<int>(rows) / shape.stride; }
  static int rows_out(const ConvTransposeShape& shape, py::ssize_t rows) {
    return static_cast<int>(rows) * shape.stride;
  }

  void run(const Conv1d& conv, const KernelTable& kernels, Scratch& scratch, const float* x, int count, float* y) {
    Conv1dState* states[] = {&state};
    conv.step(kernels, *pool, scratch, x, &count, 1, states, y, {before, Activation::kNone, nullptr});
  }
  void run(const ConvTranspose1d& conv, const KernelTable& kernels, Scratch& scratch, const float* x, int count,
           float* y) {
    ConvTransposeState* states[] = {&state};
    conv.step(kernels, *pool, scratch, before, x, &count, 1, states, y);
  }

  Floats step(const py::array& chunk) {
    const auto& shape = layer.shape();
    const int multiple = std::is_same_v<Layer, Conv1d> ? shape.stride : 1;
    const Floats x = as_chunk(chunk, shape.in, multiple);
    Floats out = new_floats({rows_out(shape, x.shape(0)), shape.out});
    const float* in = x.data();
    float* y = out.mutable_data();
    const int count = static_cast<int>(x.shape(0));
    const KernelTable& kernels = kernels_for(isa);
    const py::gil_scoped_release release;
    const Pool::Caller caller(*pool);
    Scratch scratch(kernel_arenas());
    run(layer, kernels, scratch, in, count, y);
    return out;
  }
};

using Conv1dStream = ConvStream<Conv1d, Conv1dState>;
using ConvTranspose1dStream = ConvStream<ConvTranspose1d, ConvTransposeState>;

Conv1dStream make_conv1d(const std::string& isa, int threads, const py::array& weight, const py::object& bias,
                         int stride, int dilation, bool replicate, const std::string& before, const std::string& kind) {
  const Floats w = as_floats(weight, "weight", 3);
  const Conv1dShape shape{static_cast<int>(w.shape(1)),
                          static_cast<int>(w.shape(0)),
                          static_cast<int>(w.shape(2)),
                          stride,
                          dilation,
                          replicate ? Padding::kReplicate : Padding::kZero};
  auto pool = std::make_shared<Pool>(threads);
  Conv1d layer(*pool, shape, to_buffer(w), optional_buffer(bias, "bias", shape.out), precision(kind));
  return {isa, std::move(pool), std::move(layer), before};
}

ConvTranspose1dStream make_conv_transpose1d(const std::string& isa, int threads, const py::array& weight,
                                            const py::object& bias, int stride, const std::string& before,
                                            const std::string& kind) {
  const Floats w = as_floats(weight, "weight", 3);
  const ConvTransposeShape shape{static_cast<int>(w.shape(0)), static_cast<int>(w.shape(1)),
                                 static_cast<int>(w.shape(2)), stride};
  auto pool = std::make_shared<Pool>(threads);
  ConvTranspose1d layer(*pool, shape, to_buffer(w), optional_buffer(bias, "bias", shape.out), precision(kind));
  return {isa, std::move(pool), std::move(layer), before};
}

Floats depthwise_upsample(const std::string& isa, const std::vector<py::array>& chunks, const py::array& weight) {
  const Floats w = as_floats(weight, "weight", 3);
  const int channels = static_cast<int>(w.shape(0)), stride = static_cast<int>(w.shape(2)) / 2;
  const DepthwiseUpsample upsample(channels, stride, to_buffer(w));
  ConvTransposeState state = upsample.new_state();
  py::ssize_t rows = 0;
  for (const py::array& chunk : chunks) rows += as_chunk(chunk, channels, 1).shape(0) * stride;
  Floats out = new_floats({rows, channels});
  float* y = out.mutable_data();
  for (const py::array& chunk : chunks) {
    const Floats x = as_floats(chunk, "chunk", 2);
    const int count = static_cast<int>(x.shape(0));
    ConvTransposeState* states[] = {&state};
    upsample.step(kernels_for(isa), x.data(), &count, 1, states, y);
    y += static_cast<std::size_t>(count) * stride * channels;
  }
  return out;
}

// q [rows, heads, D], k and v [rows, kv_heads, D], fed in chunks of the given sizes -> [rows, heads, D].
Floats attention(const std::string& isa, const py::array& q, const py::array& k, const py::array& v,
                 const std::vector<int>& chunks, int window) {
  const Floats queries = as_floats(q, "q", 3), keys = as_floats(k, "k", 3), values = as_floats(v, "v", 3);
  const int heads = static_cast<int>(queries.shape(1)), kv_heads = static_cast<int>(keys.shape(1));
  const int head_dim = static_cast<int>(queries.shape(2));
  check(kv_heads > 0 && heads % kv_heads == 0, heads, " query heads do not divide over ", kv_heads, " key heads");
  for (const Floats* rows : {&keys, &values})
    check(rows->shape(0) == queries.shape(0) && rows->shape(1) == kv_heads && rows->shape(2) == head_dim,
          "k and v must be [", queries.shape(0), ", ", kv_heads, ", ", head_dim, "]");
  check(std::accumulate(chunks.begin(), chunks.end(), py::ssize_t{0}) == queries.shape(0),
        "the chunks do not sum to the ", queries.shape(0), " rows of q");
  Floats out = new_floats({queries.shape(0), heads, head_dim});
  KvCache cache(kv_heads, head_dim, window);
  const std::size_t q_row = static_cast<std::size_t>(heads) * head_dim,
                    k_row = static_cast<std::size_t>(kv_heads) * head_dim;
  int done = 0;
  for (const int rows : chunks) {
    cache.reserve(rows);
    for (int r = done; r < done + rows; ++r) cache.append(keys.data() + r * k_row, values.data() + r * k_row);
    Buffer scores(static_cast<std::size_t>(kAttentionTile) * (cache.slot() + rows + 32));
    for (int head = 0; head < heads; ++head) {
      AttentionHead job;
      job.q = queries.data() + done * q_row + static_cast<std::size_t>(head) * head_dim;
      job.out = out.mutable_data() + done * q_row + static_cast<std::size_t>(head) * head_dim;
      job.ldq = job.ldo = static_cast<std::ptrdiff_t>(q_row);
      job.keys = cache.keys(head / (heads / kv_heads));
      job.values = cache.values(head / (heads / kv_heads));
      job.head_dim = head_dim;
      job.queries = rows;
      job.last = cache.slot() - rows;
      job.window = window;
      job.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
      job.scores = scores.data();
      kernels_for(isa).attention(&job);
    }
    done += rows;
  }
  return out;
}

Floats layer_norm(const std::string& isa, const py::array& x, float eps, const py::object& weight,
                  const py::object& bias, const py::object& shift, const py::object& scale) {
  const Floats in = as_floats(x, "x", 2);
  const py::ssize_t n = in.shape(1);
  const Buffer w = optional_buffer(weight, "weight", n), b = optional_buffer(bias, "bias", n);
  const Buffer sh = optional_buffer(shift, "shift", n), sc = optional_buffer(scale, "scale", n);
  check(sh.empty() == sc.empty(), "shift and scale go together: give both or neither");
  Floats out = new_floats({in.shape(0), n});
  for (py::ssize_t r = 0; r < in.shape(0); ++r)
    kernels_for(isa).layer_norm(in.data(r, 0), out.mutable_data(r, 0), static_cast<int>(n), eps,
                                w.empty() ? nullptr : w.data(), b.empty() ? nullptr : b.data(),
                                sh.empty() ? nullptr : sh.data(), sc.empty() ? nullptr : sc.data());
  return out;
}

Floats activate(const std::string& isa, const std::string& name, const py::array& x) {
  const Floats in = as_floats(x, "x", 1);
  Floats out = new_floats({in.shape(0)});
  const KernelTable& kernels = kernels_for(isa);
  const auto n = static_cast<std::size_t>(in.size());
  if (name == "exp") {
    kernels.exp(in.data(), out.mutable_data(), n);
  } else {
    kernels.activate(activation(name), in.data(), out.mutable_data(), n);
  }
  return out;
}

Floats rope(const std::string& isa, const py::array& x, const py::array& cosine, const py::array& sine) {
  const Floats in = as_floats(x, "x", 2);
  const Floats c = as_floats(cosine, "cosine", 1), s = as_floats(sine, "sine", 1);
  check(in.shape(1) % 2 == 0 && c.size() == in.shape(1) / 2 && s.size() == c.size(), "cosine and sine must have ",
        in.shape(1) / 2, " elements each, half of an even head dimension");
  Floats out = new_floats({in.shape(0), in.shape(1)});
  std::copy(in.data(), in.data() + in.size(), out.mutable_data());
  kernels_for(isa).rope(out.mutable_data(), static_cast<int>(in.shape(0)), static_cast<int>(in.shape(1)), c.data(),
                        s.data());
  return out;
}

std::vector<double> measured_bandwidth(const std::string& isa, int threads, int megabytes, int passes) {
  const KernelTable& kernels = kernels_for(isa);
  const py::gil_scoped_release release;
  Pool pool(threads);
  const Pool::Caller caller(pool);
  return read_bandwidth(kernels, pool, megabytes, passes);
}

std::vector<double> measured_peak(const std::string& isa, const std::string& kind, double seconds, int threads) {
  const KernelTable& kernels = kernels_for(isa);
  const Precision arithmetic = precision(kind);
  const py::gil_scoped_release release;
  Pool pool(threads);
  const Pool::Caller caller(pool);
  return peak_rate(kernels, pool, arithmetic, seconds);
}

}  // namespace

void bind_kernels(py::module_& module) {
  py::module_ kernels = module.def_submodule("kernels", "Single kernels, for tests and benchmarks.");
  py::class_<PackedLinear>(kernels, "PackedLinear")
      .def(py::init<const std::string&, int, const py::array&, const py::object&, const py::object&,
                    const std::string&>(),
           py::arg("isa"), py::arg("threads"), py::arg("weight"), py::arg("bias") = py::none(),
           py::arg("scale") = py::none(), py::arg("precision") = "float32")
      .def("apply", &PackedLinear::apply, py::arg("x"), py::arg("activation") = "none",
           py::arg("residual") = py::none())
      .def_property_readonly("packed_bytes", [](const PackedLinear& self) { return self.matrix.bytes(); });
  py::class_<Conv1dStream>(kernels, "Conv1d")
      .def(py::init(&make_conv1d), py::arg("isa"), py::arg("threads"), py::arg("weight"), py::arg("bias") = py::none(),
           py::arg("stride") = 1, py::arg("dilation") = 1, py::arg("replicate") = false, py::arg("before") = "none",
           py::arg("precision") = "float32")
      .def("step", &Conv1dStream::step, py::arg("chunk"));
  py::class_<ConvTranspose1dStream>(kernels, "ConvTranspose1d")
      .def(py::init(&make_conv_transpose1d), py::arg("isa"), py::arg("threads"), py::arg("weight"),
           py::arg("bias") = py::none(), py::arg("stride") = 1, py::arg("before") = "none",
           py::arg("precision") = "float32")
      .def("step", &ConvTranspose1dStream::step, py::arg("chunk"));
  kernels.def("depthwise_upsample", &depthwise_upsample, py::arg("isa"), py::arg("chunks"), py::arg("weight"));
  kernels.def("attention", &attention, py::arg("isa"), py::arg("q"), py::arg("k"), py::arg("v"), py::arg("chunks"),
              py::arg("window") = 0);
  kernels.def("layer_norm", &layer_norm, py::arg("isa"), py::arg("x"), py::arg("eps"), py::arg("weight") = py::none(),
              py::arg("bias") = py::none(), py::arg("shift") = py::none(), py::arg("scale") = py::none());
  kernels.def("activate", &activate, py::arg("isa"), py::arg("name"), py::arg("x"));
  kernels.def("read_bandwidth", &measured_bandwidth, py::arg("isa"), py::arg("threads") = 1, py::arg("megabytes") = 512,
              py::arg("passes") = 5, "GB/s of each pass over a buffer in memory.");
  kernels.def("peak", &measured_peak, py::arg("isa"), py::arg("precision") = "float32", py::arg("seconds") = 0.2,
              py::arg("threads") = 1, "GFLOP/s (or 1e9 int8 operations) of each slice of a few milliseconds.");
  kernels.def("rope", &rope, py::arg("isa"), py::arg("x"), py::arg("cosine"), py::arg("sine"));
}

}  // namespace ptts::bindings
