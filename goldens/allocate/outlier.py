"""Golden for allocate/outlier: OWL's linear map of the outlier ratios of blocks, re-centred. Run: python -P goldens/allocate/outlier.py"""

import json
import pathlib

import numpy as np

SEED = 42
rng = np.random.default_rng(SEED)
FACTOR, REACH = 3.0, 0.1


def largest_remainder(shares, sizes, total):
    wishes = np.array(shares) * sizes
    quotas = np.floor(wishes).astype(int)
    for index in np.argsort(-(wishes - quotas), kind="stable")[: total - quotas.sum()]:
        quotas[index] += 1
    assert quotas.sum() == total
    return quotas.tolist()


def allocate(rows, keep):
    # As the authors do: the scores of all matrices of a block in one list, one mean, one ratio for all of them.
    lists = {block: np.concatenate([row["scores"] for row in rows if row["block"] == block]) for block in {row["block"] for row in rows}}
    ratios = np.array([np.mean(lists[row["block"]] > FACTOR * lists[row["block"]].mean()) for row in rows])
    sizes = np.array([len(row["scores"]) for row in rows])
    shift = (ratios - ratios.min()) / (ratios.max() - ratios.min()) * 2 * REACH
    # The mean over all weights, not over layers: all units cost the same here.
    shares = keep + shift - np.average(shift, weights=sizes)
    assert 0 <= shares.min() and shares.max() <= 1
    return largest_remainder(shares, sizes, round(keep * sizes.sum()))


rows = [{"block": block, "scores": rng.lognormal(sigma=sigma, size=size).tolist(), "unit_cost": 3, "floor": 0}
        for block, sigma, size in ((0, 0.3, 61), (0, 1.0, 97), (1, 2.0, 83), (2, 1.4, 61), (2, 0.8, 120))]
golden = {
    "made_by": "goldens/allocate/outlier.py",
    "seed": SEED,
    "numpy": np.__version__,
    "factor": FACTOR,
    "reach": REACH,
    "rows": rows,
    "cases": [{"keep": keep, "quotas": allocate(rows, keep)} for keep in (0.3, 0.45, 0.5, 0.7, 0.8)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
