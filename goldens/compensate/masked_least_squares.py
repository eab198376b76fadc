"""Golden for compensate/masked_least_squares: numpy's lstsq on the tokens themselves, one row and mask at a time.

The damping d is written as rows sqrt(T d mean) I under the tokens, which ask the weights to be what they were. Conjugate gradients
are exact after as many steps as unknowns. Run: python -P goldens/compensate/masked_least_squares.py
"""

import json
import pathlib

import numpy as np

SEED = 37
rng = np.random.default_rng(SEED)


def case(out, width, tokens, damping):
    w = rng.standard_normal((out, width)).astype(np.float32).astype(np.float64)
    x = rng.standard_normal((tokens, width)) @ (np.eye(width) + 0.3 * rng.standard_normal((width, width)))
    gram = x.T @ x / tokens
    mask = rng.random((out, width)) < 0.5
    mask[0] = True
    mask[1] = False
    rows = np.sqrt(tokens * damping * np.diag(gram).mean()) * np.eye(width)
    stacked = np.vstack([x, rows])
    after = np.zeros_like(w)
    for row in range(out):
        some = mask[row]
        if some.any():
            after[row, some] = np.linalg.lstsq(stacked[:, some], stacked @ w[row], rcond=None)[0]
    return {
        "damping": damping,
        "iterations": 3 * width,
        "w": w.tolist(),
        "gram": gram.tolist(),
        "after": (w * mask).tolist(),
        "weight": after.tolist(),
        "error_before": float(((x @ (w - w * mask).T) ** 2).mean()),
        "error_after": float(((x @ (w - after).T) ** 2).mean()),
    }


golden = {
    "made_by": "goldens/compensate/masked_least_squares.py",
    "seed": SEED,
    "numpy": np.__version__,
    "cases": [case(5, 9, 40, 1e-6), case(6, 12, 60, 1e-2), case(4, 10, 6, 1e-2)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")
