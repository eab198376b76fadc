"""Golden for encode/activation_svd: numpy's singular value decomposition of the matrix with scaled columns, truncated and undone.

Run: python -P goldens/encode/activation_svd.py
"""

import json
import pathlib

import numpy as np

SEED = 31
rng = np.random.default_rng(SEED)


def case(out, width, rank, dead=()):
    w = rng.standard_normal((out, width)).astype(np.float32).astype(np.float64)
    x = rng.standard_normal((30, width)) * np.exp(rng.standard_normal(width))
    x[:, list(dead)] = 0
    square = (x**2).mean(axis=0)
    scale = np.maximum(np.sqrt(square), 1e-3 * np.sqrt(square.max()))
    u, s, vt = np.linalg.svd(w * scale)
    after = u[:, :rank] @ np.diag(s[:rank]) @ vt[:rank] / scale
    gram = x.T @ x / len(x)
    lost = ((w - after) @ x.T) ** 2
    return {
        "rank": rank,
        "w": w.tolist(),
        "mean_square": square.tolist(),
        "gram": gram.tolist(),
        "weight": after.tolist(),
        "error": float(lost.mean(axis=1).mean()),
    }


golden = {
    "made_by": "goldens/encode/activation_svd.py",
    "seed": SEED,
    "numpy": np.__version__,
    "cases": [case(7, 12, 3), case(12, 7, 4), case(9, 9, 2, dead=(4,)), case(10, 6, 2, dead=(1, 5))],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")
