"""Golden for allocate/global: standardised per row, one ranking, the nearest prefix. Run: python -P goldens/allocate/global.py"""

import json
import pathlib

import numpy as np

SEED = 15
rng = np.random.default_rng(SEED)


def nearest_prefix(rows, keep):
    """Every prefix of the removals is built and priced; the one with the nearest kept cost wins, the larger model on a tie."""
    removals = []
    for index, row in enumerate(rows):
        scores = np.array(row["scores"])
        z = np.sort((scores - scores.mean()) / scores.std())
        removals += [(value, index) for value in z[: scores.size - row["floor"]]]
    removals.sort()
    whole = sum(row["unit_cost"] * len(row["scores"]) for row in rows)
    best = None
    for count in range(len(removals) + 1):
        quotas = [len(row["scores"]) for row in rows]
        for _, index in removals[:count]:
            quotas[index] -= 1
        kept = sum(quota * row["unit_cost"] for quota, row in zip(quotas, rows))
        distance = abs(kept - keep * whole)
        if best is None or distance < best[0]:
            best = (distance, quotas)
    return best[1]


rows = []
for layer in range(4):
    # Layers differ in scale, as real ones do; attention groups are dear, channels cheap.
    rows.append({"scores": (10.0**layer * rng.lognormal(size=3)).tolist(), "unit_cost": 98_304, "floor": 1})
    rows.append({"scores": (5.0**layer * rng.lognormal(size=40)).tolist(), "unit_cost": 1_728, "floor": 8})

golden = {
    "made_by": "goldens/allocate/global.py",
    "seed": SEED,
    "numpy": np.__version__,
    "rows": rows,
    "cases": [{"keep": keep, "quotas": nearest_prefix(rows, keep)} for keep in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
