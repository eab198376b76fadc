"""Golden for metric/l_mul: the formula of the paper in exact fractions. Run: python -P goldens/metric/l_mul.py"""

import json
import math
import pathlib
from fractions import Fraction

import numpy as np

SEED = 159
rng = np.random.default_rng(SEED)


def offset(m):
    return m if m <= 3 else 3 if m == 4 else 4


def parts(x, m):
    """Exponent and fraction of |x| = (1 + fraction) 2^exponent, the fraction rounded to m bits, ties to even."""
    exponent = math.frexp(abs(x))[1] - 1
    units = Fraction(abs(x)) / Fraction(2) ** exponent * 2**m
    whole = round(units)  # Python rounds a half to even
    if whole == 2 ** (m + 1):
        exponent, whole = exponent + 1, 2**m
    return exponent, Fraction(whole, 2**m) - 1


def product(x, y, m):
    (xe, xm), (ye, ym) = parts(x, m), parts(y, m)
    total = xm + ym + Fraction(1, 2 ** offset(m))
    carry = math.floor(total)
    value = (1 + total - carry) * Fraction(2) ** (xe + ye + carry)
    return float(value if (x < 0) == (y < 0) else -value)


def exact(x, m):
    exponent, fraction = parts(x, m)
    return math.copysign(float((1 + fraction) * Fraction(2) ** exponent), x)


def numbers(count):
    values = rng.standard_normal(count) * np.exp(2 * rng.standard_normal(count))
    return values.astype(np.float32).astype(np.float64).tolist()


pairs = list(zip(numbers(40), numbers(40))) + [(1.0, 1.0), (1.9375, 1.9375), (-1.0625, 1.1875), (0.75, -1.5)]
w = np.array(numbers(24)).reshape(3, 8)
x = np.array(numbers(40)).reshape(5, 8)
products, dots = [], []
for m in [1, 2, 3, 4, 5, 7, 10, 23]:
    products.append({"bits": m, "products": [product(a, b, m) for a, b in pairs]})
    y = x @ w.T
    approximate = np.array([[sum(product(a, b, m) for a, b in zip(row, col)) for col in w] for row in x])
    rounded = np.array([[sum(exact(a, m) * exact(b, m) for a, b in zip(row, col)) for col in w] for row in x])
    norm = np.linalg.norm(y)
    dots.append(
        {
            "bits": m,
            "l_mul": float(np.linalg.norm(approximate - y) / norm),
            "rounded": float(np.linalg.norm(rounded - y) / norm),
        }
    )
golden = {
    "made_by": "goldens/metric/l_mul.py",
    "seed": SEED,
    "numpy": np.__version__,
    "pairs": pairs,
    "cases": products,
    "w": w.tolist(),
    "x": x.tolist(),
    "dots": dots,
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
