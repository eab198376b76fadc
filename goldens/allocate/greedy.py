"""Golden for allocate/greedy: blocks leave one by one, each time the least harmful on top. Run: python -P goldens/allocate/greedy.py"""

import json
import pathlib

import numpy as np

SEED = 45
rng = np.random.default_rng(SEED)
BLOCKS = 11

# What a set of removed blocks costs: each its own, and each pair something, so that the order is not that of the first look.
alone = rng.lognormal(size=BLOCKS)
pairs = np.triu(rng.lognormal(sigma=1.5, size=(BLOCKS, BLOCKS)), 1)


def damage(removed):
    return sum(alone[b] for b in removed) + sum(pairs[a, b] for a in removed for b in removed)


order, left = [], list(range(BLOCKS))
while left:
    worst = min(left, key=lambda block: damage([*order, block]))
    order.append(worst)
    left.remove(worst)
assert order != np.argsort(alone, kind="stable").tolist()

golden = {
    "made_by": "goldens/allocate/greedy.py",
    "seed": SEED,
    "numpy": np.__version__,
    "alone": alone.tolist(),
    "pairs": pairs.tolist(),
    "order": order,
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
