// The products that oneDNN computes; where it is not there, gemm_without_onednn.cpp stands for
// this.
#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>

#include "stages/model/trainer/gemm.h"
#include "stages/model/trainer/part_times.h"
#include "stages/result.h"

namespace nudge {

namespace {

// Debian's oneDNN takes its thread count from OpenMP's setting of the calling thread.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

char Letter(Transpose transpose) {
  return transpose == Transpose::kYes ? 'T' : 'N';
}

bool HasInstructions(dnnl_cpu_isa_t wanted) {
  const auto has = static_cast<unsigned>(dnnl_get_effective_cpu_isa());
  return (has & static_cast<unsigned>(wanted)) == static_cast<unsigned>(wanted);
}

// One product of bf16 numbers, prepared for its sizes.
struct Bf16Shape {
  dnnl_dim_t m, n, k, a_stride, b_stride, c_stride;
  bool transpose_b, accumulate;
  auto operator<=>(const Bf16Shape&) const = default;
};
struct Bf16Product {
  dnnl::memory::desc a, b, c, scratch;
  dnnl::matmul matmul;
};

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

Bf16Product Prepare(const Bf16Shape& shape) {
  using Memory = dnnl::memory;
  const auto bf16 = Memory::data_type::bf16;
  Bf16Product product;
  product.a = {{shape.m, shape.k}, bf16, Memory::dims{shape.a_stride, 1}};
  product.b = {
      {shape.k, shape.n},
      bf16,
      shape.transpose_b ? Memory::dims{1, shape.b_stride} : Memory::dims{shape.b_stride, 1}};
  product.c = {{shape.m, shape.n}, Memory::data_type::f32, Memory::dims{shape.c_stride, 1}};
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (shape.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1);
    attributes.set_post_ops(sum);
  }
  const dnnl::matmul::primitive_desc chosen(dnnl::matmul::desc(product.a, product.b, product.c),
                                            attributes, Engine());
  product.scratch = chosen.scratchpad_desc();
  product.matmul = dnnl::matmul(chosen);
  return product;
}

// Shared by all threads; a step needs some tens of them.
class Bf16Products {
 public:
  std::shared_ptr<const Bf16Product> For(const Bf16Shape& shape) {
    {
      const std::shared_lock lock(mutex_);
      const auto known = products_.find(shape);
      if (known != products_.end()) return known->second;
    }
    auto made = std::make_shared<const Bf16Product>(Prepare(shape));
    const std::unique_lock lock(mutex_);
    if (products_.size() >= kMost) products_.clear();
    return products_.emplace(shape, std::move(made)).first->second;
  }

 private:
  static constexpr size_t kMost = 2048;
  std::shared_mutex mutex_;
  std::map<Bf16Shape, std::shared_ptr<const Bf16Product>> products_;
};

}  // namespace

void Multiply(Transpose transpose_a, Transpose transpose_b, size_t m, size_t n, size_t k,
              float alpha, const float* a, size_t a_stride, const float* b, size_t b_stride,
              float beta, float* c, size_t c_stride) {
  if (m == 0 || n == 0) return;
  const PartTimer timer(StepPart::kLora);  // the outermost timer counts
  const OneThread guard;
  const auto status =
      dnnl_sgemm(Letter(transpose_a), Letter(transpose_b), static_cast<dnnl_dim_t>(m),
                 static_cast<dnnl_dim_t>(n), static_cast<dnnl_dim_t>(k), alpha, a,
                 static_cast<dnnl_dim_t>(a_stride), b, static_cast<dnnl_dim_t>(b_stride), beta, c,
                 static_cast<dnnl_dim_t>(c_stride));
  ENSURE(status == dnnl_success);
}

void MultiplyBf16(Transpose transpose_b, size_t m, size_t n, size_t k, const uint16_t* a,
                  size_t a_stride, const uint16_t* b, size_t b_stride, bool accumulate, float* c,
                  size_t c_stride) {
  if (m == 0 || n == 0) return;
  const OneThread guard;
  static Bf16Products products;
  const auto size = [](size_t value) { return static_cast<dnnl_dim_t>(value); };
  const auto product = products.For({size(m), size(n), size(k), size(a_stride), size(b_stride),
                                     size(c_stride), transpose_b == Transpose::kYes, accumulate});
  thread_local AlignedFloats scratch;
  thread_local size_t scratch_bytes = 0;
  if (const size_t bytes = product->scratch.get_size(); bytes > scratch_bytes) {
    scratch = AllocateFloats((bytes + sizeof(float) - 1) / sizeof(float));
    scratch_bytes = bytes;
  }
  thread_local dnnl::stream stream(Engine());
  const dnnl::engine& engine = Engine();
  product->matmul.execute(
      stream, {{DNNL_ARG_SRC, {product->a, engine, const_cast<uint16_t*>(a)}},  // only read
               {DNNL_ARG_WEIGHTS, {product->b, engine, const_cast<uint16_t*>(b)}},
               {DNNL_ARG_DST, {product->c, engine, c}},
               {DNNL_ARG_SCRATCHPAD, {product->scratch, engine, scratch.get()}}});
  stream.wait();
}

bool HasBf16Products() {
  return HasInstructions(dnnl_cpu_isa_avx512_core);
}

bool Bf16IsFaster() {
  return HasInstructions(dnnl_cpu_isa_avx512_core_bf16);  // AMX has them too
}

std::string GemmPath(BaseProducts products) {
  if (products == BaseProducts::kPortable) return PortablePath();
  const dnnl_version_t* version = dnnl_version();
  return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch) + " isa " + std::to_string(dnnl_get_effective_cpu_isa()) +
         (products == BaseProducts::kBf16 ? " bf16" : "") + " functions 1";
}

}  // namespace nudge
