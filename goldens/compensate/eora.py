"""Golden for compensate/eora: the formulas of the paper, eigenvectors of the inputs and singular values of the projected error.

Run: python -P goldens/compensate/eora.py
"""

import json
import pathlib

import numpy as np

SEED = 41
rng = np.random.default_rng(SEED)


def case(out, width, rank, tokens):
    w = rng.standard_normal((out, width)).astype(np.float32).astype(np.float64)
    after = np.round(w * 2) / 2
    x = rng.standard_normal((tokens, width)) @ rng.standard_normal((width, width))
    gram = x.T @ x / tokens
    values, q = np.linalg.eigh(gram)
    root = np.sqrt(np.maximum(values, 1e-6 * values.max()))
    u, s, vt = np.linalg.svd((w - after) @ q @ np.diag(root), full_matrices=False)
    b = u[:, :rank] @ np.diag(np.sqrt(s[:rank]))
    a = np.diag(np.sqrt(s[:rank])) @ vt[:rank] @ np.diag(1 / root) @ q.T
    restored = after + b @ a
    return {
        "rank": rank,
        "w": w.tolist(),
        "gram": gram.tolist(),
        "after": after.tolist(),
        "weight": restored.tolist(),
        "error_before": float(((x @ (w - after).T) ** 2).mean()),
        "error_after": float(((x @ (w - restored).T) ** 2).mean()),
    }


golden = {
    "made_by": "goldens/compensate/eora.py",
    "seed": SEED,
    "numpy": np.__version__,
    # The last has fewer tokens than inputs, so that the floor of the eigenvalues counts.
    "cases": [case(6, 11, 2, 50), case(11, 6, 3, 50), case(8, 8, 8, 40), case(12, 7, 2, 5)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")
