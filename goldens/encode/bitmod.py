"""Golden for encode/bitmod: all grids and all values by exhaustion. Run: python -P goldens/encode/bitmod.py"""

import json
import pathlib

import numpy as np

SEED = 173
rng = np.random.default_rng(SEED)
POSITIVE = {3: [1, 2, 4], 4: [0.5, 1, 1.5, 2, 3, 4, 6]}
SPECIAL = {3: [3, -3, 6, -6], 4: [5, -5, 8, -8]}


def quantise(group, bits):
    best = None
    for special in SPECIAL[bits]:
        grid = np.array([-v for v in POSITIVE[bits]] + [0.0] + POSITIVE[bits] + [special], dtype=np.float64)
        scale = np.abs(group).max() / np.abs(grid).max()
        chosen = grid[np.abs(group[:, None] - scale * grid[None, :]).argmin(axis=1)] * scale
        error = float(((group - chosen) ** 2).sum())
        if best is None or error < best[0]:
            best = (error, special, chosen)
    return best


def case(shape, bits, size):
    w = rng.standard_normal(shape) * np.exp(rng.standard_normal(shape))
    w = w.astype(np.float32).astype(np.float64)
    values, special = np.zeros(shape), []
    for row in range(shape[0]):
        for start in range(0, shape[1], size):
            _, kind, chosen = quantise(w[row, start : start + size], bits)
            values[row, start : start + size] = chosen
            special.append(kind)
    return {"bits": bits, "group": size, "w": w.tolist(), "special": special, "values": values.tolist()}


golden = {
    "made_by": "goldens/encode/bitmod.py",
    "seed": SEED,
    "numpy": np.__version__,
    "cases": [case((6, 20), 3, 8), case((5, 33), 4, 16), case((2, 7), 4, 128)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
