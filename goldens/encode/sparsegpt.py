"""Golden for encode/sparsegpt: the algorithm of the paper (Frantar and Alistarh 2023, Algorithm 1) in float64, row by row.

The factor is that of the paper, the upper Cholesky factor of the inverted Hessian; the choice in a block is made by sorting.
Inputs that were never seen count as of mean size. Run: python -P goldens/encode/sparsegpt.py
"""

import json
import pathlib

import numpy as np

SEED = 23
rng = np.random.default_rng(SEED)


def best(scores, count):
    """Indices of the largest scores; of equal ones the first."""
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count]


def sparsegpt(w, gram, keep, pattern, block, damping, bits=None, group=None):
    w = w.copy()
    out, width = w.shape
    h = gram.copy()
    seen = np.diag(gram) > 0
    mean = np.diag(gram)[seen].mean()
    h[~seen, ~seen] = mean
    h += damping * mean * np.eye(width)
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    if not np.allclose(upper.T @ upper, np.linalg.inv(h)):
        raise SystemExit("not the factor")
    d = np.diag(upper)
    total = {"matrix": round(keep * out * width)}.get(pattern, round(keep * width))
    kept = 0
    for start in range(0, width, block):
        end = min(start + block, width)
        stay = np.ones((out, end - start), bool)
        score = w[:, start:end] ** 2 / d[start:end] ** 2 * seen[start:end]
        until = int(np.floor(total * end / width + 0.5))
        count, kept = until - kept, until
        if pattern == "matrix" and keep < 1:
            stay[:] = False
            for i in best(score.ravel(), count):
                stay[i // (end - start), i % (end - start)] = True
        elif pattern in ("row", "8 rows"):
            stay[:] = False
            together = 8 if pattern == "8 rows" else 1
            for first in range(0, out, together):
                for column in best(score[first : first + together].sum(axis=0), count):
                    stay[first : first + together, column] = True
        errors = np.zeros((out, end - start))
        for i in range(start, end):
            if pattern in ("2:4", "4:8") and keep < 1:
                n, m = (int(part) for part in pattern.split(":"))
                if i % m == 0:
                    now = w[:, i : i + m] ** 2 / d[i : i + m] ** 2 * seen[i : i + m]
                    for row in range(out):
                        stay[row, i - start : i - start + m] = False
                        for column in best(now[row], n):
                            stay[row, i - start + column] = True
            if bits and i % group == 0:
                most = 2 ** (bits - 1) - 1
                step = np.abs(w[:, i : i + group]).max(axis=1) / most
            q = w[:, i].copy()
            if bits:
                q = np.where(step > 0, np.rint(q / np.where(step > 0, step, 1)).clip(-most, most) * step, 0)
            q[~stay[:, i - start]] = 0
            errors[:, i - start] = (w[:, i] - q) / d[i]
            w[:, i:end] -= np.outer(errors[:, i - start], upper[i, i:end])
            w[:, i] = q
        w[:, end:] -= errors @ upper[start:end, end:]
    return w


def case(out, width, tokens, dead=(), **settings):
    w = rng.standard_normal((out, width)).astype(np.float32).astype(np.float64)
    x = rng.standard_normal((tokens, width)) @ rng.standard_normal((width, width))
    x[:, list(dead)] = 0
    gram = x.T @ x / tokens
    after = sparsegpt(w, gram, **settings)
    lost = (w - after) @ x.T
    return {
        **settings,
        "w": w.tolist(),
        "gram": gram.tolist(),
        "weight": after.tolist(),
        "error": float((lost**2).sum() / tokens / out),
    }


golden = {
    "made_by": "goldens/encode/sparsegpt.py",
    "seed": SEED,
    "numpy": np.__version__,
    "cases": [
        case(5, 24, 60, keep=0.5, pattern="matrix", block=8, damping=0.01),
        case(7, 21, 60, keep=0.3, pattern="matrix", block=8, damping=0.1),
        # More rows than one part of the work has, more inputs than are settled between two products.
        case(101, 22, 90, keep=0.6, pattern="matrix", block=20, damping=0.01),
        # Fewer tokens than inputs, and inputs that were never seen.
        case(6, 18, 9, dead=(2, 11), keep=0.5, pattern="matrix", block=128, damping=0.01),
        case(5, 24, 60, keep=0.4, pattern="row", block=8, damping=0.01),
        case(11, 22, 60, keep=0.5, pattern="8 rows", block=8, damping=0.01),
        case(5, 26, 60, keep=0.5, pattern="2:4", block=8, damping=0.01),
        case(4, 24, 60, keep=0.5, pattern="4:8", block=16, damping=0.01),
        case(5, 24, 60, keep=0.5, pattern="matrix", block=12, damping=0.01, bits=4, group=6),
        case(3, 30, 60, keep=1.0, pattern="matrix", block=64, damping=0.01, bits=3, group=32),
        case(5, 32, 60, keep=0.5, pattern="2:4", block=16, damping=0.01, bits=4, group=16),
    ],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")
