"""Golden for encode/armor: the parametrisation and the loss of the paper, each step solved exactly, in float64.

Wrappers by numpy's lstsq on the weighted rows or columns of a strip; each group of four of the core by lstsq of the whole block for
each of its six patterns, in order. Run: python -P goldens/encode/armor.py
"""

import itertools
import json
import pathlib

import numpy as np

SEED = 43
rng = np.random.default_rng(SEED)


def armor(w, square, b, rounds):
    out, width = w.shape
    columns = np.sqrt((w**2).sum(axis=0))
    v = w / columns
    rows = np.sqrt((v**2).sum(axis=1))
    v = v / rows[:, None]
    h = square / square.mean()
    root = np.sqrt(h)
    s = np.zeros_like(v)
    for row, first in itertools.product(range(out), range(0, width, 4)):
        score = (v[row] ** 2 * h)[first : first + 4]
        for k in sorted(range(4), key=lambda k: (-score[k], k))[:2]:
            s[row, first + k] = v[row, first + k]
    left = [np.eye(b) for _ in range(out // b)]
    right = [np.eye(b) for _ in range(width // b)]

    def at(i, j):
        return np.s_[i * b : i * b + b, j * b : j * b + b]

    losses = []
    for _ in range(rounds):
        for i in range(len(left)):
            z = np.hstack([s[at(i, j)] @ right[j] for j in range(len(right))]) * root
            left[i] = np.linalg.lstsq(z.T, (v[i * b : i * b + b] * root).T, rcond=None)[0].T
        for j in range(len(right)):
            z = np.vstack([left[i] @ s[at(i, j)] for i in range(len(left))])
            right[j] = np.linalg.lstsq(z, v[:, j * b : j * b + b], rcond=None)[0]
        for i, j in itertools.product(range(len(left)), range(len(right))):
            weight = root[j * b : j * b + b]
            target = v[at(i, j)] * weight
            core = s[at(i, j)].copy()
            for row, first in itertools.product(range(b), range(0, b, 4)):
                best, least = None, ((target - left[i] @ core @ right[j] * weight) ** 2).sum()
                core_without = core.copy()
                core_without[row, first : first + 4] = 0
                rest = (target - left[i] @ core_without @ right[j] * weight).ravel()
                for pair in itertools.combinations(range(first, first + 4), 2):
                    basis = np.stack([np.outer(left[i][:, row], right[j][k] * weight).ravel() for k in pair], axis=1)
                    values, *_ = np.linalg.lstsq(basis, rest, rcond=None)
                    loss = ((rest - basis @ values) ** 2).sum()
                    if loss < least:
                        best, least = (pair, values), loss
                if best:
                    core = core_without
                    core[row, list(best[0])] = best[1]
            s[at(i, j)] = core
        product = np.block([[left[i] @ s[at(i, j)] @ right[j] for j in range(len(right))] for i in range(len(left))])
        losses.append(float(((v - product) ** 2 * h).sum()))
    return rows[:, None] * product * columns, losses


def case(out, width, block, rounds):
    w = rng.standard_normal((out, width)).astype(np.float32).astype(np.float64)
    x = rng.standard_normal((40, width)) * np.exp(0.5 * rng.standard_normal(width))
    square = (x**2).mean(axis=0)
    after, losses = armor(w, square, block, rounds)
    lost = ((w - after) @ x.T) ** 2
    return {
        "keep": 0.5,
        "pattern": "2:4",
        "block": block,
        "iterations": rounds,
        "w": w.tolist(),
        "mean_square": square.tolist(),
        "gram": (x.T @ x / len(x)).tolist(),
        "weight": after.tolist(),
        "losses": losses,
        "error": float(lost.mean(axis=1).mean()),
    }


golden = {
    "made_by": "goldens/encode/armor.py",
    "seed": SEED,
    "numpy": np.__version__,
    "cases": [case(8, 12, 4, 1), case(16, 24, 8, 2), case(12, 8, 4, 3)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")
