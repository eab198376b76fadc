"""Golden for metric/correlation: np.corrcoef, and what heads write, token by token. Run: python -P goldens/metric/correlation.py"""

import json
import pathlib

import numpy as np

SEED = 52
rng = np.random.default_rng(SEED)
TOKENS, HEADS, COLUMNS, OUT = 50, 4, 3, 5
THRESHOLDS = [0.2, 0.5, 0.8]

width = HEADS * COLUMNS
x = rng.standard_normal((TOKENS, width)) @ rng.standard_normal((width, width)) + 2 * rng.standard_normal(width)
x[:, 5] = -1.5 * x[:, 2] + 4.0  # one feature is said twice
w = rng.standard_normal((OUT, width)).astype(np.float32).astype(np.float64)


def figures(r):
    size = np.abs(r - np.diag(np.diag(r)))
    pairs = size[np.triu_indices(r.shape[0], 1)]
    return {
        "above": [float((pairs > threshold).mean()) for threshold in THRESHOLDS],
        "mean_strongest": float(size.max(axis=1).mean()),
        "mean_square": float((pairs**2).mean()),
    }


# What head h writes at every token, off its mean, as one long vector.
written = [x[:, h * COLUMNS : (h + 1) * COLUMNS] @ w[:, h * COLUMNS : (h + 1) * COLUMNS].T for h in range(HEADS)]
flat = np.array([(y - y.mean(axis=0)).ravel() for y in written])
flat /= np.linalg.norm(flat, axis=1, keepdims=True)

golden = {
    "made_by": "goldens/metric/correlation.py",
    "seed": SEED,
    "numpy": np.__version__,
    "thresholds": THRESHOLDS,
    "mean": x.mean(axis=0).tolist(),
    "gram": (x.T @ x / TOKENS).tolist(),
    "reader": w.tolist(),
    "heads": HEADS,
    "of_features": figures(np.corrcoef(x.T)),
    "of_heads": figures(flat @ flat.T),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
