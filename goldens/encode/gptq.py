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

codes = np.zeros((4, n), dtype=int)
values = np.zeros((4, n))
scales = []
for row in range(4):
    blocks = w[row].reshape(-1, 32).astype(np.float32)
    d = ((blocks.max(1) - blocks.min(1)) / np.float32(15)).astype(np.float16).astype(np.float64)
    m = blocks.min(1).astype(np.float16).astype(np.float64)
    scales.append([[a, b] for a, b in zip(d.tolist(), m.tolist())])
    now = w[row].copy()
    for j in range(n):
        inverse = np.linalg.inv(damped[j:, j:])
        code = int(np.clip(np.rint((now[j] - m[j // 32]) / d[j // 32]), 0, 15))
        codes[row, j] = code
        values[row, j] = d[j // 32] * code + m[j // 32]
        error = (now[j] - values[row, j]) / inverse[0, 0]
        now[j:] -= error * inverse[0]
off = w - values
golden = {
    "made_by": "goldens/encode/gptq.py",
    "seed": SEED,
    "numpy": np.__version__,
    "damping": DAMPING,
    "w": w.tolist(),
    "gram": gram.tolist(),
    "scales": scales,
    "codes": codes.tolist(),
    "values": values.tolist(),
    "errors": np.einsum("ri,ij,rj->r", off, damped, off).tolist(),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
