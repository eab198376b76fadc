"""Golden for encode/round_nearest: uniform grids per group, in float64. Run: python -P goldens/encode/round_nearest.py"""

import json
import pathlib

import numpy as np

SEED = 21
rng = np.random.default_rng(SEED)
w = rng.standard_normal((3, 20)).astype(np.float32).astype(np.float64)
x = rng.standard_normal((50, 20)) @ rng.standard_normal((20, 20))
gram = x.T @ x / len(x)


def rounded(bits, group, symmetric):
    out = np.empty_like(w)
    for row in range(w.shape[0]):
        for start in range(0, w.shape[1], group):
            values = w[row, start : start + group]
            if symmetric:
                grid = np.arange(-(2 ** (bits - 1) - 1), 2 ** (bits - 1)) * np.abs(values).max() / (2 ** (bits - 1) - 1)
            else:
                grid = np.linspace(values.min(), values.max(), 2**bits)
            out[row, start : start + group] = grid[np.abs(values[:, None] - grid).argmin(axis=1)]
    return out


cases = []
for bits, group, symmetric in [(4, 8, False), (4, 8, True), (2, 20, False), (8, 5, True), (3, 7, False)]:
    values = rounded(bits, group, symmetric)
    error = float((((values - w) @ x.T) ** 2).mean())
    cases.append({"bits": bits, "group": group, "symmetric": symmetric, "values": values.tolist(), "error": error})
golden = {
    "made_by": "goldens/encode/round_nearest.py",
    "seed": SEED,
    "numpy": np.__version__,
    "w": w.tolist(),
    "gram": gram.tolist(),
    "cases": cases,
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
