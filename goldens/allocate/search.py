"""Golden for allocate/search: the best of all allocations of a small case, by trying them all. Run: python -P goldens/allocate/search.py"""

import itertools
import json
import pathlib

import numpy as np

SEED = 46
rng = np.random.default_rng(SEED)
UNITS, ROWS, LEAVE = 6, 4, 10

# damage = l^T Q l for the lost shares l: what two rows lose together shows in no row alone.
own = rng.uniform(0.5, 2.0, size=ROWS)
together = np.triu(rng.uniform(0.0, 4.0, size=(ROWS, ROWS)), 1)
quadratic = np.diag(own) + together


def damage(lost):
    share = np.array(lost) / UNITS
    return float(share @ quadratic @ share)


choices = [lost for lost in itertools.product(range(UNITS + 1), repeat=ROWS) if sum(lost) == LEAVE]
ranked = sorted(choices, key=damage)
golden = {
    "made_by": "goldens/allocate/search.py",
    "seed": SEED,
    "numpy": np.__version__,
    "units": UNITS,
    "keep": 1 - LEAVE / (UNITS * ROWS),
    "quadratic": quadratic.tolist(),
    "quotas": [UNITS - lost for lost in ranked[0]],
    "damage": damage(ranked[0]),
    "runner_up": damage(ranked[1]),
    "choices": len(choices),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
