"""Golden for score/feature-merging: groups as lists of members, their means computed anew each time. Run: python -P goldens/score/feature_merging.py"""

import json
import pathlib

import numpy as np

SEED = 71
rng = np.random.default_rng(SEED)


def near(kinds, spread, width):
    """Units of a few kinds, each near its kind."""
    centre = rng.standard_normal((kinds.max() + 1, width))
    units = centre[kinds] + spread[:, None] * rng.standard_normal((len(kinds), width))
    return units.astype(np.float32).astype(np.float64)


def scores(units):
    largest = max(np.linalg.norm(a - b) for a in units for b in units)
    groups = [{"members": [i], "stands": i} for i in range(len(units))]
    found, reached = np.ones(len(units)), 0.0
    while len(groups) > 1:
        means = [units[group["members"]].mean(axis=0) for group in groups]
        pairs = [(np.linalg.norm(means[i] - means[j]), i, j) for i in range(len(groups)) for j in range(i + 1, len(groups))]
        distance, i, j = min(pairs)
        reached = max(reached, distance)
        rank = lambda group: (len(group["members"]), np.linalg.norm(units[group["stands"]]))
        stays, goes = sorted((groups[i], groups[j]), key=rank, reverse=True)
        found[goes["stands"]] = reached / largest
        groups[i] = {"members": groups[i]["members"] + groups[j]["members"], "stands": stays["stands"]}
        groups.pop(j)
    return found.tolist()


def case(units, rows, inputs, outputs):
    """`rows` rows of each writer and as many columns of the reader belong to a unit."""
    kinds = rng.integers(0, 5, units)
    spread = 0.01 * 3.0 ** rng.integers(0, 4, units)
    gate, up, down = (near(kinds, spread, rows * width) for width in (inputs, inputs, outputs))
    joined = np.concatenate([gate, up, down], axis=1)
    reader = down.reshape(units, outputs, rows).transpose(1, 0, 2).reshape(outputs, units * rows)
    writers = [writer.reshape(units * rows, inputs).tolist() for writer in (gate, up)]
    return {"units": units, "reader": reader.tolist(), "writers": writers, "scores": scores(joined)}


golden = {
    "made_by": "goldens/score/feature_merging.py",
    "seed": SEED,
    "numpy": np.__version__,
    "channel": case(13, 1, 5, 4),
    "group": case(7, 2, 3, 4),
}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
