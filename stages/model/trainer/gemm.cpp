#include "stages/model/trainer/gemm.h"

#include <sys/mman.h>

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <shared_mutex>

#include "stages/model/trainer/part_times.h"
#include "stages/result.h"

#if defined(__SANITIZE_THREAD__)
#define NUDGE_CLONES  // what chooses a clone runs before the sanitizer is there, and calls it
#else
#define NUDGE_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif

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

constexpr size_t kLargePage = size_t{2} << 20;
constexpr size_t kAlignment = 64;
constexpr size_t kTileRows = 256;
constexpr size_t kTileColumns = 384;
constexpr size_t kColumnStep = 48;  // columns of oneDNN's AVX-512 register block

size_t CeilDivide(size_t a, size_t b) {
  return (a + b - 1) / b;
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

void MultiplyReference(Transpose transpose_a, Transpose transpose_b, size_t m, size_t n, size_t k,
                       float alpha, const float* a, size_t a_stride, const float* b,
                       size_t b_stride, float beta, float* c, size_t c_stride) {
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (size_t p = 0; p < k; ++p) {
        const float x = transpose_a == Transpose::kYes ? a[p * a_stride + i] : a[i * a_stride + p];
        const float y = transpose_b == Transpose::kYes ? b[j * b_stride + p] : b[p * b_stride + j];
        sum += static_cast<double>(x) * static_cast<double>(y);
      }
      const double before = beta == 0 ? 0 : static_cast<double>(beta * c[i * c_stride + j]);
      c[i * c_stride + j] = static_cast<float>(static_cast<double>(alpha) * sum + before);
    }
  }
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
    scratch = AllocateFloats(CeilDivide(bytes, sizeof(float)));
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

NUDGE_CLONES
void ToBf16(const float* from, size_t count, uint16_t* to) {
  for (size_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<uint32_t>(from[i]);
    const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    const uint32_t rounded = bits + 0x7FFFu + (bits >> 16 & 1u);
    to[i] = static_cast<uint16_t>((is_nan ? bits | 0x400000u : rounded) >> 16);
  }
}

void FromBf16(const uint16_t* from, size_t count, float* to) {
  for (size_t i = 0; i < count; ++i) to[i] = std::bit_cast<float>(uint32_t{from[i]} << 16);
}

bool HasBf16Products() {
  return HasInstructions(dnnl_cpu_isa_avx512_core);
}

bool Bf16IsFaster() {
  return HasInstructions(dnnl_cpu_isa_avx512_core_amx);
}

std::string GemmPath(bool bf16) {
  const dnnl_version_t* version = dnnl_version();
  return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch) + " isa " + std::to_string(dnnl_get_effective_cpu_isa()) +
         (bf16 ? " bf16" : "");
}

void FreeAligned::operator()(void* values) const {
  std::free(values);
}

void ThrowBadAlloc() {
  if (const std::new_handler handler = std::get_new_handler()) handler();
  throw std::bad_alloc();
}

void* AllocateAligned(size_t bytes) {
  void* memory = std::aligned_alloc(
      kAlignment, CeilDivide(std::max<size_t>(bytes, 1), kAlignment) * kAlignment);
  if (memory == nullptr) ThrowBadAlloc();
  return memory;
}

AlignedFloats AllocateFloats(size_t count) {
  return AlignedFloats(static_cast<float*>(AllocateAligned(count * sizeof(float))));
}

AlignedBf16 AllocateBf16(size_t count) {
  return AlignedBf16(static_cast<uint16_t*>(AllocateAligned(count * sizeof(uint16_t))));
}

AlignedFloats AllocateStreamedFloats(size_t count) {
  const size_t bytes =
      CeilDivide(std::max<size_t>(count * sizeof(float), 1), kLargePage) * kLargePage;
  void* const memory = std::aligned_alloc(kLargePage, bytes);
  if (memory == nullptr) ThrowBadAlloc();
#ifdef MADV_HUGEPAGE
  (void)::madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: without it the same, slower
#endif
  return AlignedFloats(static_cast<float*>(memory));
}

Tiles::Tiles(size_t rows, size_t columns)
    : rows_(rows),
      columns_(columns),
      row_blocks_(CeilDivide(rows, kTileRows)),
      panels_(4 * CeilDivide(columns, 4 * kTileColumns)),
      panel_width_(CeilDivide(CeilDivide(columns, panels_), kColumnStep) * kColumnStep) {
  panels_ = CeilDivide(columns, panel_width_);
}

Tiles::Tile Tiles::operator[](size_t index) const {
  const size_t row = index % row_blocks_ * kTileRows;
  const size_t column = index / row_blocks_ * panel_width_;
  return {row, std::min(kTileRows, rows_ - row), column, std::min(panel_width_, columns_ - column)};
}

}  // namespace nudge
