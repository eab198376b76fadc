"""Golden for score/fluctuation: variance of the inputs times the squares of the weights, standardised over the columns of a matrix and
averaged over those of a head, after squaring. Run: python -P goldens/score/fluctuation.py"""

import json
import pathlib

import numpy as np

SEED = 31
rng = np.random.default_rng(SEED)
TOKENS = 25


def case(out, units, columns):
    """o or down reads `units * columns` inputs; the fluctuation is taken over the tokens themselves."""
    w = rng.standard_normal((out, units * columns)).astype(np.float32)
    x = rng.standard_normal((TOKENS, units * columns)) * np.exp(rng.standard_normal(units * columns))
    x += 3.0 * rng.standard_normal(units * columns)
    x[:, 1] = 0.75  # a constant input fluctuates not at all
    fluctuation = ((x - x.mean(axis=0)) ** 2).mean(axis=0)
    metric = fluctuation * np.linalg.norm(w.astype(np.float64), axis=0) ** 2
    if columns > 1:
        metric = metric**2
    metric = (metric - metric.mean()) / metric.std(ddof=1)
    return {
        "reader": w.astype(np.float64).tolist(),
        "mean": x.mean(axis=0).tolist(),
        "mean_square": (x**2).mean(axis=0).tolist(),
        "units": units,
        "scores": metric.reshape(units, columns).mean(axis=1).tolist(),
    }


golden = {
    "made_by": "goldens/score/fluctuation.py",
    "seed": SEED,
    "numpy": np.__version__,
    "channel": case(4, 7, 1),
    "group": case(5, 3, 4),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
