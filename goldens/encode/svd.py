"""Golden for encode/svd: numpy's singular value decomposition, truncated.

Run: python -P goldens/encode/svd.py
"""

import json
import pathlib

import numpy as np

SEED = 29
rng = np.random.default_rng(SEED)


def case(out, width, keep=1.0, rank=None):
    w = rng.standard_normal((out, width)).astype(np.float32).astype(np.float64)
    kept = rank or max(r for r in range(1, min(out, width) + 1) if r * (out + width) <= keep * out * width)
    u, s, vt = np.linalg.svd(w)
    after = u[:, :kept] @ np.diag(s[:kept]) @ vt[:kept]
    settings = {"rank": rank} if rank else {}
    return {**settings, "keep": keep, "kept": kept, "w": w.tolist(), "weight": after.tolist()}


golden = {
    "made_by": "goldens/encode/svd.py",
    "seed": SEED,
    "numpy": np.__version__,
    "cases": [case(7, 12, 0.5), case(12, 7, 0.7), case(9, 9, 0.3), case(6, 10, rank=6), case(10, 6, rank=2)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")
