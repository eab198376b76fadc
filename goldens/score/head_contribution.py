"""Golden for score/head_contribution: the mean energy of what each unit writes. Run: python -P goldens/score/head_contribution.py"""

import json
import pathlib

import numpy as np

SEED = 32
rng = np.random.default_rng(SEED)
TOKENS = 25


def case(out, units, columns):
    """Every token passes through the columns of every unit alone, and the squares of the outputs are added up."""
    w = rng.standard_normal((out, units * columns)).astype(np.float32)
    x = rng.standard_normal((TOKENS, units * columns)) @ rng.standard_normal((units * columns, units * columns))
    scores = []
    for unit in range(units):
        own = slice(unit * columns, (unit + 1) * columns)
        written = [w[:, own].astype(np.float64) @ token[own] for token in x]
        scores.append(float(np.mean([np.sum(y**2) for y in written])))
    return {
        "reader": w.astype(np.float64).tolist(),
        "gram": (x.T @ x / TOKENS).tolist(),
        "units": units,
        "scores": scores,
    }


golden = {
    "made_by": "goldens/score/head_contribution.py",
    "seed": SEED,
    "numpy": np.__version__,
    "channel": case(4, 7, 1),
    "group": case(5, 3, 4),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
