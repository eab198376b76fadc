"""Golden for encode/block-float: every order by sorting, every block through frexp. Run: python -P goldens/encode/block_float.py"""

import json
import pathlib

import numpy as np

SEED = 140
rng = np.random.default_rng(SEED)


def emulate(w, order, bits, group):
    shuffled = w[:, order]
    out = np.zeros_like(shuffled)
    limit = 2 ** (bits - 1) - 1
    for start in range(0, w.shape[1], group):
        block = shuffled[:, start : start + group]
        peak = np.abs(block).max(axis=1, keepdims=True)
        exponent = np.frexp(peak)[1] - 1  # peak = f * 2^(exponent + 1), 0.5 <= f < 1
        step = np.where(peak > 0, np.ldexp(1.0, exponent - bits + 2), 1.0)
        out[:, start : start + group] = np.clip(np.rint(block / step), -limit, limit) * step
    back = np.empty_like(out)
    back[:, order] = out
    return back


def case(shape, bits, group, outliers, spread=1.0):
    w = rng.standard_normal(shape)
    w[:, outliers] *= 20.0
    w[0, : min(3, shape[1])] = 0.0
    w = w.astype(np.float32).astype(np.float64)
    square = np.exp(spread * rng.standard_normal(shape[1]))
    norm = (w**2).sum(axis=0)
    orders = {
        "natural": np.arange(shape[1]),
        "norm": np.argsort(-norm, kind="stable"),
        "weighted": np.argsort(-norm * square, kind="stable"),
    }
    values = {name: emulate(w, order, bits, group) for name, order in orders.items()}
    losses = {name: float((square * ((w - value) ** 2).sum(axis=0)).sum()) for name, value in values.items()}
    best = min(losses, key=losses.get)
    return {
        "bits": bits,
        "group": group,
        "w": w.tolist(),
        "mean_square": square.tolist(),
        "plain": values["natural"].tolist(),
        "best": best,
        "losses": losses,
        "values": values[best].tolist(),
    }


golden = {
    "made_by": "goldens/encode/block_float.py",
    "seed": SEED,
    "numpy": np.__version__,
    "cases": [
        case((5, 14), 4, 4, [1, 6, 11]),
        case((3, 40), 3, 8, [0, 9, 18, 27, 36]),
        case((4, 9), 6, 32, []),
        case((2, 7), 2, 3, [4]),
        case((7, 15), 3, 5, [], 3.0),
    ],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
