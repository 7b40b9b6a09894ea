#include "stages/model/trainer/functions.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <limits>

namespace nudge {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNearest = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer

// ln 2 and pi / 2 in parts, the highest so short that a whole number times it is exact.
constexpr double kLn2High = 0x1.62e42feep-1;
constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
constexpr double kHalfPiHigh = 0x1.921fb544p+0;
constexpr double kHalfPiMiddle = 0x1.0b4611a6p-34;
constexpr double kHalfPiLow = 0x1.3198a2e037073p-69;

uint64_t BitsOf(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

double OfBits(uint64_t bits) {
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

double PowerOfTwo(int exponent) {  // -1022..1023
  return OfBits(static_cast<uint64_t>(exponent + 1023) << 52);
}

// c[0] + c[1] x + c[2] x^2 ...
template <size_t kCount>
double Polynomial(const std::array<double, kCount>& c, double x) {
  double sum = c[kCount - 1];
  for (size_t i = kCount - 1; i-- > 0;) sum = sum * x + c[i];
  return sum;
}

// 1/2!, 1/3! ... 1/13!
constexpr std::array<double, 12> kExponentialTerms = [] {
  std::array<double, 12> terms{};
  double factorial = 1;
  for (size_t i = 0; i < terms.size(); ++i) {
    factorial *= static_cast<double>(i + 2);
    terms[i] = 1 / factorial;
  }
  return terms;
}();

// 2/3, 2/5 ... 2/23: of log (1 + s) / (1 - s).
constexpr std::array<double, 11> kLogarithmTerms = [] {
  std::array<double, 11> terms{};
  for (size_t i = 0; i < terms.size(); ++i) terms[i] = 2 / static_cast<double>(2 * i + 3);
  return terms;
}();

// (-1)^i / (first + 2 i)!
template <size_t kCount>
constexpr std::array<double, kCount> AlternatingTerms(int first, double sign) {
  std::array<double, kCount> terms{};
  double factorial = 1;
  int reached = 1;
  for (size_t i = 0; i < kCount; ++i, sign = -sign) {
    const int last = first + 2 * static_cast<int>(i);
    while (reached < last) factorial *= static_cast<double>(++reached);
    terms[i] = sign / factorial;
  }
  return terms;
}
constexpr auto kSineTerms = AlternatingTerms<8>(3, -1);   // from x^3 on
constexpr auto kCosineTerms = AlternatingTerms<8>(4, 1);  // from x^4 on

}  // namespace

double Exponential(double x) {
  if (x != x) return x;
  if (x > 709.79) return kInfinity;
  if (x < -745.2) return 0;
  const double n = (x * 0x1.71547652b82fep+0 + kNearest) - kNearest;
  const double high = x - n * kLn2High;
  const double low = n * kLn2Low;
  const double r = high - low;
  const double e = 1 + (high + (r * r * Polynomial(kExponentialTerms, r) - low));
  const int exponent = static_cast<int>(n);
  const int half = exponent / 2;
  return e * PowerOfTwo(half) * PowerOfTwo(exponent - half);
}

double Logarithm(double x) {
  if (x == 0) return -kInfinity;
  if (x < 0) return std::numeric_limits<double>::quiet_NaN();
  if (!(x < kInfinity)) return x;
  int exponent = 0;
  if (x < std::numeric_limits<double>::min()) {
    x *= 0x1p54;
    exponent = -54;
  }
  uint64_t bits = BitsOf(x);
  exponent += static_cast<int>(bits >> 52) - 1023;
  double m = OfBits((bits & 0xFFFFFFFFFFFFFu) | 0x3FF0000000000000u);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double f = m - 1;
  const double s = f / (2 + f);
  const double half_square = 0.5 * f * f;
  const double z = s * s;
  const double rest = z * Polynomial(kLogarithmTerms, z);
  const auto k = static_cast<double>(exponent);
  return k * kLn2High - ((half_square - (s * (half_square + rest) + k * kLn2Low)) - f);
}

CosineSine CosineSineOf(double angle) {
  const double n = (angle * 0x1.45f306dc9c883p-1 + kNearest) - kNearest;
  const double from = angle - n * kHalfPiHigh;
  const double middle = n * kHalfPiMiddle;
  const double near = from - middle;
  const double lost = (from - near) - middle;
  const double last = n * kHalfPiLow - lost;
  const double r = near - last;
  const double low = (near - r) - last;
  const double z = r * r;
  const double sine = r + (r * z * Polynomial(kSineTerms, z) + low * (1 - 0.5 * z));
  const double half = 0.5 * z;
  const double whole = 1 - half;
  const double cosine =
      whole + (((1 - whole) - half) + (z * z * Polynomial(kCosineTerms, z) - r * low));
  switch (static_cast<int64_t>(n) & 3) {
    case 0:
      return {cosine, sine};
    case 1:
      return {-sine, cosine};
    case 2:
      return {-cosine, -sine};
    default:
      return {sine, -cosine};
  }
}

double Power(double base, double exponent) {
  if (exponent == 0) return 1;
  return Exponential(exponent * Logarithm(base));
}

}  // namespace nudge
