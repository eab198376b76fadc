"""Golden for allocate/floor: raw scores per weight, one ranking, a least share per row. Run: python -P goldens/allocate/floor.py"""

import json
import math
import pathlib

import numpy as np

SEED = 41
rng = np.random.default_rng(SEED)
FLOOR = 0.15


def nearest(rows, keep):
    """Every threshold is tried: what lies above it stays, and each row's best up to its floor. The nearest cost wins."""
    whole = sum(row["unit_cost"] * len(row["scores"]) for row in rows)
    values = sorted({s / row["unit_cost"] for row in rows for s in row["scores"]})
    best = None
    for threshold in [-math.inf, *values]:
        quotas = []
        for row in rows:
            above = sum(s / row["unit_cost"] > threshold for s in row["scores"])
            quotas.append(max(above, row["floor"], math.ceil(FLOOR * len(row["scores"]))))
        kept = sum(quota * row["unit_cost"] for quota, row in zip(quotas, rows))
        distance = abs(kept - keep * whole)
        if best is None or distance < best[0]:
            best = (distance, quotas)
    return best[1]


rows = []
for layer in range(4):
    # Late layers are larger: without a floor the first ones collapse.
    rows.append({"scores": (98_304 * 2.0**layer * rng.lognormal(size=4)).tolist(), "unit_cost": 98_304, "floor": 1})
    rows.append({"scores": (1_728 * 3.0**layer * rng.lognormal(size=40)).tolist(), "unit_cost": 1_728, "floor": 8})

golden = {
    "made_by": "goldens/allocate/floor.py",
    "seed": SEED,
    "numpy": np.__version__,
    "floor": FLOOR,
    "rows": rows,
    "cases": [{"keep": keep, "quotas": nearest(rows, keep)} for keep in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
