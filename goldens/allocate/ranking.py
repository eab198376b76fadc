"""Golden for allocate/ranking: one ranking of the scores as they are. Run: python -P goldens/allocate/ranking.py"""

import json
import math
import pathlib

import numpy as np

SEED = 43
rng = np.random.default_rng(SEED)


def nearest(rows, keep):
    """Every threshold is tried: what lies above it stays, and each row's best up to its floor. The nearest cost wins."""
    whole = sum(row["unit_cost"] * len(row["scores"]) for row in rows)
    best = None
    for threshold in [-math.inf, *sorted(score for row in rows for score in row["scores"])]:
        quotas = [max(sum(score > threshold for score in row["scores"]), row["floor"]) for row in rows]
        kept = sum(quota * row["unit_cost"] for quota, row in zip(quotas, rows))
        distance = abs(kept - keep * whole)
        if best is None or distance < best[0]:
            best = (distance, quotas)
    return best[1]


rows = []
for layer in range(5):
    # Heads, whose scores are means of many, lie closer together than channels.
    rows.append({"scores": (0.3 * rng.standard_normal(6)).tolist(), "unit_cost": 98_304, "floor": 1})
    rows.append({"scores": rng.standard_normal(40).tolist(), "unit_cost": 1_728, "floor": 8})

golden = {
    "made_by": "goldens/allocate/ranking.py",
    "seed": SEED,
    "numpy": np.__version__,
    "rows": rows,
    "cases": [{"keep": keep, "quotas": nearest(rows, keep)} for keep in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
