"""Golden for allocate/dynamic: every combination of levels is tried. Run: python -P goldens/allocate/dynamic.py"""

import itertools
import json
import pathlib

import numpy as np

SEED = 44
rng = np.random.default_rng(SEED)
LEVELS = 5


def best(damage, keep):
    """Rows of 40 units of equal cost, damages that add up: the least sum among all combinations within the budget."""
    count, units = damage.shape[0], damage.shape[1] - 1
    step = (1 - keep) / 2
    quotas = [int(np.clip(round((keep + i * step) * units), 0, units)) for i in (2, 1, 0, -1, -2)]
    within = (c for c in itertools.product(sorted(set(quotas)), repeat=count) if sum(c) <= round(keep * units * count))
    choice = min(within, key=lambda c: sum(damage[row, quota] for row, quota in enumerate(c)))
    # Damage falls with every unit, so the best choice spends all: nothing is left for the units between levels.
    assert sum(choice) == round(keep * units * count)
    return list(choice)


# damage[row][quota]: falling to 0 at the whole row, at very different paces, not convex.
falls = rng.lognormal(sigma=1.5, size=(5, 40)) * np.exp(rng.standard_normal((5, 1)))
damage = np.concatenate([np.cumsum(falls[:, ::-1], axis=1)[:, ::-1], np.zeros((5, 1))], axis=1)
golden = {
    "made_by": "goldens/allocate/dynamic.py",
    "seed": SEED,
    "numpy": np.__version__,
    "levels": LEVELS,
    "damage": damage.tolist(),
    "cases": [{"keep": keep, "quotas": best(damage, keep)} for keep in (0.5, 0.6, 0.7, 0.8, 0.9)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
