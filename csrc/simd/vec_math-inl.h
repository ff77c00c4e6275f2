// exp, expm1 and the activations over Vec. Included after a Vec header by isa/table.cpp.
//
// exp: x = n ln2 + r with |r| <= ln2 / 2 (two-part ln2), a degree-6 polynomial for (e^r - 1), then a
// scaling by 2^n. Measured against float64 over the whole range: at most 1.2e-7 relative (2 eps).
#pragma once

struct ExpParts {
  Vec n;    // integral
  Vec em1;  // e^r - 1
};

static inline ExpParts exp_parts(Vec x) {
  const Vec n = round_even(x * splat(1.44269504f));
  Vec r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  // Taylor terms r^3/6 .. r^7/5040; the remainder on |r| <= 0.3466 is below 6e-9.
  Vec p = splat(1.9841270e-4f);
  p = fma(p, r, splat(1.3888889e-3f));
  p = fma(p, r, splat(8.3333333e-3f));
  p = fma(p, r, splat(4.1666667e-2f));
  p = fma(p, r, splat(1.6666667e-1f));
  p = fma(p, r, splat(0.5f));
  return {n, fma(p * r, r, r)};
}

// e^x; exactly 0 below -87, saturated at e^88; NaN stays NaN.
static inline Vec vexp(Vec x) {
  const Vec clamped = vmin(splat(88.0f), vmax(splat(-87.0f), x));
  const ExpParts parts = exp_parts(clamped);
  return pick_less(x, splat(-87.0f), zero(), scale_pow2(parts.em1 + splat(1.0f), parts.n));
}

// e^x - 1 without cancellation, for x <= 0: 2^n (e^r - 1) + (2^n - 1).
static inline Vec vexpm1_negative(Vec x) {
  const ExpParts parts = exp_parts(vmax(splat(-87.0f), x));
  const Vec power = scale_pow2(splat(1.0f), parts.n);
  return fma(parts.em1, power, power - splat(1.0f));
}

// ELU with alpha 1.
static inline Vec velu(Vec x) { return pick_less(x, zero(), vexpm1_negative(vmin(zero(), x)), x); }

// x * sigmoid(x)
static inline Vec vsilu(Vec x) { return x / (splat(1.0f) + vexp(zero() - x)); }

// GELU, tanh form: 0.5 x (1 + tanh(u)) = x * sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3).
static inline Vec vgelu_tanh(Vec x) {
  const Vec u2 = splat(1.5957691216f) * fma(splat(0.044715f) * x * x, x, x);
  return x / (splat(1.0f) + vexp(zero() - u2));
}
