"""Golden for metric/nuclear: spectra by LAPACK. Run: python -P goldens/metric/nuclear.py"""

import json
import pathlib

import numpy as np

SEED = 51
rng = np.random.default_rng(SEED)


def figures(matrix):
    s = np.linalg.svd(matrix, compute_uv=False)
    p = s[s > s[0] * 1e-12] / s.sum()
    lengths = np.sort(np.linalg.norm(matrix, axis=0))[::-1]
    return {
        "nuclear_norm": float(s.sum()),
        "column_lengths": float(lengths[: min(matrix.shape)].sum()),
        "effective_rank": float(np.exp(-(p * np.log(p)).sum())),
        "rank_of_90_percent": int(np.searchsorted(np.cumsum(s**2), 0.9 * (s**2).sum()) + 1),
    }


def weight(m, n):
    w = (rng.standard_normal((m, n)) * np.exp(rng.standard_normal(n))).astype(np.float32).astype(np.float64)
    return {"w": w.tolist(), **figures(w)}


def activations(tokens, width, rank):
    x = rng.standard_normal((tokens, rank)) @ rng.standard_normal((rank, width))
    return {"tokens": tokens, "gram": (x.T @ x / tokens).tolist(), **figures(x / np.sqrt(tokens))}


golden = {
    "made_by": "goldens/metric/nuclear.py",
    "seed": SEED,
    "numpy": np.__version__,
    "weights": [weight(5, 8), weight(9, 4), weight(1, 6)],
    "activations": [activations(30, 7, 7), activations(40, 6, 6)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
