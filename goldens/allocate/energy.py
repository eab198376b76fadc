"""Golden for allocate/energy: shares by a softmax of energies, full rows give on. Run: python -P goldens/allocate/energy.py"""

import json
import pathlib

import numpy as np

SEED = 43
rng = np.random.default_rng(SEED)
TEMPERATURE = 0.7


def shares(weights, costs, target):
    """Rows that would be more than whole are whole; the others divide the rest again."""
    full = np.zeros(len(weights), dtype=bool)
    while True:
        rest = target - costs[full].sum()
        scale = rest / (costs * weights)[~full].sum() if not full.all() else 0.0
        found = np.where(full, 1.0, scale * weights)
        if (found <= 1.0).all():
            return found
        full |= found > 1.0


def allocate(rows, keep):
    energy = np.array([np.mean(row["scores"]) / row["unit_cost"] for row in rows])
    softmax = np.exp(energy / energy.max() / TEMPERATURE)
    softmax /= softmax.sum()
    sizes = np.array([len(row["scores"]) for row in rows])
    wishes = shares(softmax, sizes.astype(float), keep * sizes.sum()) * sizes
    total, quotas = round(keep * sizes.sum()), np.floor(wishes + 1e-9).astype(int)
    for index in np.argsort(-(wishes - quotas), kind="stable")[: total - quotas.sum()]:
        quotas[index] += 1
    assert quotas.sum() == total
    return quotas.tolist()


# All units cost the same, so that largest remainders settle the last units.
rows = [{"scores": (scale * rng.lognormal(size=size)).tolist(), "unit_cost": 7, "floor": 0}
        for scale, size in ((1.0, 61), (3.0, 97), (9.0, 83), (0.1, 61), (5.0, 120))]
golden = {
    "made_by": "goldens/allocate/energy.py",
    "seed": SEED,
    "numpy": np.__version__,
    "factor": TEMPERATURE,
    "rows": rows,
    "cases": [{"keep": keep, "quotas": allocate(rows, keep)} for keep in (0.2, 0.3, 0.5, 0.7, 0.8, 0.9)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
