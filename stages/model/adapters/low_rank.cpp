#include "stages/model/adapters/low_rank.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

#include "stages/hash.h"
#include "stages/model/trainer/gemm.h"
#include "stages/result.h"

namespace nudge {
namespace {

constexpr auto kNo = Transpose::kNo;
constexpr auto kYes = Transpose::kYes;

constexpr uint64_t kSeed = 1;
constexpr size_t kPassesMax = 24;
constexpr double kGainLeast = 1e-6;     // of a pass, beside what is kept
constexpr double kSquareLeast = 1e-12;  // of a singular value, beside the largest one's
constexpr size_t kPanelRows = 96;

// Columns side by side: [rows, columns], row-major.
struct Block {
  size_t rows = 0;
  size_t columns = 0;
  std::vector<float> values;

  Block(size_t rows_of, size_t columns_of)
      : rows(rows_of), columns(columns_of), values(rows_of * columns_of) {}
};

// op(matrix) block, of a matrix as it is stored.
Block Times(Transpose transpose, std::span<const float> matrix, size_t stride, size_t rows,
            const Block& block) {
  Block product(rows, block.columns);
  MultiplyPortable(transpose, kNo, rows, block.columns, block.rows, 1, matrix.data(), stride,
                   block.values.data(), block.columns, 0, product.values.data(), block.columns);
  return product;
}

Block Apply(const LowRankProduct& product, const Block& block) {
  return Times(kNo, product.b, product.rank, product.out,
               Times(kNo, product.a, product.in, product.rank, block));
}

Block ApplyTransposed(const LowRankProduct& product, const Block& block) {
  return Times(kYes, product.a, product.in, product.in,
               Times(kYes, product.b, product.rank, product.rank, block));
}

// Of a block's columns with each other: eigenvalues, largest first, none below 0, and vectors.
struct Spectrum {
  std::vector<double> values;
  Eigen::MatrixXd vectors;  // a column each
};

Spectrum SpectrumOf(const Block& block) {
  const size_t n = block.columns;
  std::vector<double> sums(n * n);
  for (size_t row = 0; row < block.rows; ++row) {
    const float* values = block.values.data() + row * n;
    for (size_t i = 0; i < n; ++i) {
      const auto left = static_cast<double>(values[i]);
      for (size_t j = 0; j <= i; ++j) sums[i * n + j] += left * static_cast<double>(values[j]);
    }
  }
  const auto size = static_cast<Eigen::Index>(n);
  Eigen::MatrixXd gram(size, size);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      gram(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) = sums[i * n + j];
    }
  }
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram);  // reads the lower half
  ENSURE(solver.info() == Eigen::Success);
  Spectrum spectrum;
  spectrum.vectors = solver.eigenvectors().rowwise().reverse();
  for (Eigen::Index i = size; i-- > 0;) {
    spectrum.values.push_back(std::max(solver.eigenvalues()[i], 0.0));
  }
  return spectrum;
}

// The block in the directions of the spectrum, column i times scale(i).
template <class Scale>
Block Turned(const Block& block, const Spectrum& spectrum, size_t columns, Scale&& scale) {
  std::vector<float> turn(block.columns * columns);
  for (size_t j = 0; j < columns; ++j) {
    const double factor = scale(j);
    for (size_t i = 0; i < block.columns; ++i) {
      turn[i * columns + j] = static_cast<float>(
          factor * spectrum.vectors(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)));
    }
  }
  Block turned(block.rows, columns);
  MultiplyPortable(kNo, kNo, block.rows, columns, block.columns, 1, block.values.data(),
                   block.columns, turn.data(), columns, 0, turned.values.data(), columns);
  return turned;
}

// Columns of length 1; one of zeros stays.
void Normalise(Block& block) {
  std::vector<double> squares(block.columns);
  for (size_t i = 0; i < block.values.size(); ++i) {
    const auto value = static_cast<double>(block.values[i]);
    squares[i % block.columns] += value * value;
  }
  for (size_t i = 0; i < block.values.size(); ++i) {
    const double square = squares[i % block.columns];
    if (square == 0) continue;
    block.values[i] = static_cast<float>(static_cast<double>(block.values[i]) / std::sqrt(square));
  }
}

// Orthogonal columns of length 1 that span the same, and columns of zeros in place of those that
// others span already. The second round takes what rounding leaves of the first one.
Block Orthogonal(Block block) {
  for (int round = 0; round < 2; ++round) {
    Normalise(block);
    const Spectrum spectrum = SpectrumOf(block);
    block = Turned(block, spectrum, block.columns, [&](size_t i) {
      const double value = spectrum.values[i];
      return value > kSquareLeast * spectrum.values[0] ? 1 / std::sqrt(value) : 0.0;
    });
  }
  return block;
}

Block AnyColumns(size_t rows, size_t columns) {
  Block block(rows, columns);
  for (size_t i = 0; i < block.values.size(); ++i) {
    block.values[i] = static_cast<float>(2 * UniformAt(kSeed, i) - 1);
  }
  return block;
}

double SquareOf(std::span<const float> values) {
  double square = 0;
  for (const float value : values)
    square += static_cast<double>(value) * static_cast<double>(value);
  return square;
}

}  // namespace

// Subspace iteration (Halko, Martinsson and Tropp 2011) with a block of twice the rank. A block as
// wide as the product's rank has all of it at once.
LowRankProduct CutToRank(const LowRankProduct& product, size_t rank) {
  const size_t all = std::min({product.rank, product.in, product.out});
  const size_t width = std::min(all, 2 * rank);
  const size_t most = std::min(all, rank);
  Block columns = AnyColumns(product.in, width);
  Block left(0, 0);
  Block right(0, 0);
  Spectrum spectrum;
  double kept = 0;
  for (size_t pass = 0; pass < kPassesMax; ++pass) {
    left = Orthogonal(Apply(product, columns));
    right = ApplyTransposed(product, left);  // product = left right^T, as far as left has it
    spectrum = SpectrumOf(right);
    const double before = kept;
    kept = 0;
    for (size_t i = 0; i < most; ++i) kept += spectrum.values[i];
    if (width == product.rank || kept - before <= kGainLeast * kept) break;
    columns =
        Turned(right, spectrum, width, [&](size_t) { return 1 / std::sqrt(spectrum.values[0]); });
  }
  size_t live = 0;
  while (live < most && spectrum.values[live] > kSquareLeast * spectrum.values[0]) ++live;
  const auto root = [&](size_t i) { return std::sqrt(std::sqrt(spectrum.values[i])); };
  LowRankProduct cut{product.out, product.in, live, {}, {}};
  cut.b = Turned(left, spectrum, live, root).values;
  const Block rows = Turned(right, spectrum, live, [&](size_t i) { return 1 / root(i); });
  cut.a.resize(live * product.in);
  for (size_t i = 0; i < live; ++i) {
    for (size_t j = 0; j < product.in; ++j) cut.a[i * product.in + j] = rows.values[j * live + i];
  }
  return cut;
}

Distances DistancesFrom(const LowRankProduct& product, std::span<const LowRankProduct> others) {
  Distances found{0, std::vector<double>(others.size())};
  std::vector<float> panel(kPanelRows * product.in);
  std::vector<float> difference(panel.size());
  const auto add = [&](const LowRankProduct& to, size_t row, size_t rows, float sign, float keep,
                       std::vector<float>& sums) {
    if (to.rank == 0) return;
    Multiply(kNo, kNo, rows, product.in, to.rank, sign, to.b.data() + row * to.rank, to.rank,
             to.a.data(), to.in, keep, sums.data(), to.in);
  };
  for (size_t row = 0; row < product.out; row += kPanelRows) {
    const size_t rows = std::min(kPanelRows, product.out - row);
    const size_t count = rows * product.in;
    add(product, row, rows, 1, 0, panel);
    found.norm += SquareOf(std::span(panel).first(count));
    for (size_t i = 0; i < others.size(); ++i) {
      std::copy_n(panel.begin(), count, difference.begin());
      add(others[i], row, rows, -1, 1, difference);
      found.distances[i] += SquareOf(std::span(difference).first(count));
    }
  }
  return found;
}

}  // namespace nudge
