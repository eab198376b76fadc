"""Golden for compensate/masked_least_squares: numpy's lstsq on the tokens themselves, one row and mask at a time.

The damping d is written as rows sqrt(T d mean) I under the tokens, which ask the weights to be what they were. Conjugate gradients
are exact after as many steps as unknowns. What is kept of a core S between block-diagonal L and R moves by D, a block of L at a time, with
a column of numpy's lstsq for every weight that stays; there the damping asks L D to be small. Run: python -P goldens/compensate/masked_least_squares.py
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


def wrapped(out, width, sizes, tokens, damping):
    def blocks(count, size):
        near_one = np.eye(size) + 0.4 * rng.standard_normal((count, size, size))
        return near_one.astype(np.float32).astype(np.float64)

    def diagonal(blocks):
        size = blocks.shape[1]
        whole = np.zeros((len(blocks) * size,) * 2)
        for at, block in enumerate(blocks):
            whole[at * size : (at + 1) * size, at * size : (at + 1) * size] = block
        return whole

    w = rng.standard_normal((out, width)).astype(np.float32).astype(np.float64)
    x = rng.standard_normal((tokens, width)) @ (np.eye(width) + 0.3 * rng.standard_normal((width, width)))
    gram = x.T @ x / tokens
    left, right = blocks(out // sizes[0], sizes[0]), blocks(width // sizes[1], sizes[1])
    core = w * (rng.random((out, width)) < 0.5)
    read = x @ diagonal(right).T
    mean = (read**2).mean()
    read = np.vstack([read, np.sqrt(tokens * damping * mean) * np.eye(width)])
    lacking = np.vstack([x @ (w - diagonal(left) @ core @ diagonal(right)).T, np.zeros((width, out))])
    solved = core.copy()
    for at, block in enumerate(left):
        rows = np.s_[at * sizes[0] : (at + 1) * sizes[0]]
        some = np.argwhere(core[rows])
        design = np.stack([np.outer(read[:, c], block[:, r]).ravel() for r, c in some], axis=1)
        solved[rows][tuple(some.T)] += np.linalg.lstsq(design, lacking[:, rows].ravel(), rcond=None)[0]
    before, after = (diagonal(left) @ core @ diagonal(right) for core in (core, solved))
    return {
        "damping": damping,
        "iterations": 3 * sizes[0] * width,
        "w": w.tolist(),
        "gram": gram.tolist(),
        "left": left.tolist(),
        "right": right.tolist(),
        "after": core.tolist(),
        "weight": after.tolist(),
        "error_before": float(((x @ (w - before).T) ** 2).mean()),
        "error_after": float(((x @ (w - after).T) ** 2).mean()),
    }


golden = {
    "made_by": "goldens/compensate/masked_least_squares.py",
    "seed": SEED,
    "numpy": np.__version__,
    "cases": [case(5, 9, 40, 1e-6), case(6, 12, 60, 1e-2), case(4, 10, 6, 1e-2)],
    "wrapped": [wrapped(6, 12, (3, 4), 60, 1e-3), wrapped(8, 8, (4, 4), 30, 1e-2)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")
