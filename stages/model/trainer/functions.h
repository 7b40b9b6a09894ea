// The elementary functions that decide bits of weights and losses: double -> double, by additions,
// multiplications and divisions alone, so that every machine, compiler and C library gives the
// same bits. C libraries differ here, and one differs from processor to processor.
//
// Errors are against the exact value, for results that are normal numbers. Pure, any thread.
#pragma once

namespace nudge {

// e^x within 1 ulp; 0 and infinity where that is out of range; NaN stays NaN.
double Exponential(double x);

// The natural logarithm within 1 ulp; of 0 minus infinity, of less NaN.
double Logarithm(double x);

struct CosineSine {
  double cosine, sine;
};

// Of an angle in radians within 1 ulp, or 1e-16 near a zero, for up to a million either way.
CosineSine CosineSineOf(double angle);

// base^exponent for a base of 0 or more, with a relative error of at most
// 4e-16 (1 + |exponent log base|). 0^0 is 1.
double Power(double base, double exponent);

}  // namespace nudge
