"""Golden for encode/gptq: columns in turn with the inverse of the remaining moments made anew for each column (optimal brain surgeon), which
is what the Cholesky factor stands for. Grids are min and max of each 32 in f16. In float64. Run: python -P goldens/encode/gptq.py"""

import json
import pathlib

import numpy as np

SEED = 22
DAMPING = 0.01
rng = np.random.default_rng(SEED)
n = 64
w = rng.standard_normal((4, n)).astype(np.float32).astype(np.float64)
x = rng.standard_normal((200, n)) @ (np.eye(n) + 0.5 * rng.standard_normal((n, n)))
gram = x.T @ x / len(x)
damped = gram + DAMPING * np.mean(np.diag(gram)) * np.eye(n)

scales = []
for row in range(4):
    blocks = w[row].reshape(-1, 32).astype(np.float32)
    d = ((blocks.max(1) - blocks.min(1)) / np.float32(15)).astype(np.float16).astype(np.float64)
    m = blocks.min(1).astype(np.float16).astype(np.float64)
    scales.append([[a, b] for a, b in zip(d.tolist(), m.tolist())])


def rounded(order):
    """Columns in this order, in the grids of the blocks where they stand."""
    codes = np.zeros((4, n), dtype=int)
    values = np.zeros((4, n))
    for row in range(4):
        now = w[row].copy()
        for at, j in enumerate(order):
            left = order[at:]
            inverse = np.linalg.inv(damped[np.ix_(left, left)])
            d, m = scales[row][j // 32]
            codes[row, j] = int(np.clip(np.rint((now[j] - m) / d), 0, 15))
            values[row, j] = d * codes[row, j] + m
            now[left] -= (now[j] - values[row, j]) / inverse[0, 0] * inverse[0]
    off = w - values
    errors = np.einsum("ri,ij,rj->r", off, damped, off)
    return {"codes": codes.tolist(), "values": values.tolist(), "errors": errors.tolist()}


golden = {
    "made_by": "goldens/encode/gptq.py",
    "seed": SEED,
    "numpy": np.__version__,
    "damping": DAMPING,
    "w": w.tolist(),
    "gram": gram.tolist(),
    "scales": scales,
    **rounded(np.arange(n)),
    "largest_first": rounded(np.argsort(-np.diag(gram), kind="stable")),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
