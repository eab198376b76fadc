"""Golden for score/magnitude: |W|, and the squared L2 norm of every coupled weight. Run: python -P goldens/score/magnitude.py"""

import json
import pathlib

import numpy as np

SEED = 11
rng = np.random.default_rng(SEED)


def draw(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def lists(matrix):
    return np.asarray(matrix, dtype=np.float64).tolist()


def half(scores):
    """The larger half of the whole matrix; the first of equals stays."""
    order = np.argsort(-scores.ravel(), kind="stable")
    return sorted(order[: scores.size // 2].tolist())


def two_of_four(scores):
    kept = []
    for o, row in enumerate(scores):
        for start in range(0, row.size, 4):
            group = row[start : start + 4]
            best = np.argsort(-group, kind="stable")[:2]
            kept += sorted((o * row.size + start + best).tolist())
    return kept


w = draw(6, 8)
size = np.abs(w.astype(np.float64))

# FFN: F = 4 channels, C = 3.
down, gate, up = draw(3, 4), draw(4, 3), draw(4, 3)
channel = [float(sum((m.astype(np.float64) ** 2).sum() for m in (down[:, f], gate[f], up[f]))) for f in range(4)]

# Attention: G = 2 groups, H = 4, D = 2, C = 3: a group is 4 columns of o, 4 rows of q, 2 rows of k and v.
o, q, k, v = draw(3, 8), draw(8, 3), draw(4, 3), draw(4, 3)
group = [
    float(
        sum(
            (m.astype(np.float64) ** 2).sum()
            for m in (o[:, 4 * g : 4 * g + 4], q[4 * g : 4 * g + 4], k[2 * g : 2 * g + 2], v[2 * g : 2 * g + 2])
        )
    )
    for g in range(2)
]
block = float(sum((m.astype(np.float64) ** 2).sum() for m in (q, k, v, o, gate, up, down)))

golden = {
    "made_by": "goldens/score/magnitude.py",
    "seed": SEED,
    "numpy": np.__version__,
    "weight": {"w": lists(w), "scores": lists(size), "half": half(size), "two_of_four": two_of_four(size)},
    "channel": {"reader": lists(down), "writers": [lists(gate), lists(up)], "units": 4, "scores": channel},
    "group": {"reader": lists(o), "writers": [lists(q), lists(k), lists(v)], "units": 2, "scores": group},
    "block": {"writers": [lists(m) for m in (q, k, v, o, gate, up, down)], "units": 1, "scores": [block]},
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
