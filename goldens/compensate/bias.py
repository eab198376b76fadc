"""Golden for compensate/bias: b + W_P mean(x_P), errors over the tokens themselves. Run: python -P goldens/compensate/bias.py"""

import json
import pathlib

import numpy as np

SEED = 16
rng = np.random.default_rng(SEED)
w = rng.standard_normal((5, 7)).astype(np.float32)
b = rng.standard_normal(5).astype(np.float32)
x = rng.standard_normal((40, 7)) @ rng.standard_normal((7, 7)) + rng.standard_normal(7)
kept = [0, 2, 3, 6]
pruned = [1, 4, 5]

whole = x @ w.T.astype(np.float64) + b
plain = x[:, kept] @ w[:, kept].T.astype(np.float64) + b
repaired = b + w[:, pruned].astype(np.float64) @ x[:, pruned].mean(axis=0)
after = x[:, kept] @ w[:, kept].T.astype(np.float64) + repaired

golden = {
    "made_by": "goldens/compensate/bias.py",
    "seed": SEED,
    "numpy": np.__version__,
    "w": w.astype(np.float64).tolist(),
    "b": b.astype(np.float64).tolist(),
    "mean": x.mean(axis=0).tolist(),
    "gram": (x.T @ x / len(x)).tolist(),
    "kept": kept,
    "bias": repaired.tolist(),
    "error_before": float(((whole - plain) ** 2).mean()),
    "error_after": float(((whole - after) ** 2).mean()),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
