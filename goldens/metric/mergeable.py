"""Golden for metric/mergeable: groups as explicit means of their members. Run: python -P goldens/metric/mergeable.py"""

import json
import pathlib

import numpy as np

SEED = 53
rng = np.random.default_rng(SEED)
CHANNELS, WIDTH = 14, 4

# Some channels are near copies of others.
kinds = rng.integers(0, 6, CHANNELS)
spread = 0.01 * 3.0 ** rng.integers(0, 4, CHANNELS)


def near(shape):
    centre = rng.standard_normal((6, shape))
    return (centre[kinds] + spread[:, None] * rng.standard_normal((CHANNELS, shape))).astype(np.float32).astype(np.float64)


gate, up, down = near(WIDTH), near(WIDTH), near(WIDTH).T
units = np.concatenate([gate, up, down.T], axis=1)
largest = max(np.linalg.norm(a - b) for a in units for b in units)


def left(threshold):
    groups = [[i] for i in range(CHANNELS)]
    while len(groups) > 1:
        means = [units[group].mean(axis=0) for group in groups]
        pairs = [(np.linalg.norm(means[i] - means[j]), i, j) for i in range(len(groups)) for j in range(i + 1, len(groups))]
        distance, i, j = min(pairs)
        if distance >= threshold * largest:
            break
        groups[i] += groups.pop(j)
    return len(groups)


thresholds = [0.01, 0.03, 0.1, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 1.0]
golden = {
    "made_by": "goldens/metric/mergeable.py",
    "seed": SEED,
    "numpy": np.__version__,
    "gate": gate.tolist(),
    "up": up.tolist(),
    "down": down.tolist(),
    "largest": float(largest),
    "nearest": float(min(np.linalg.norm(units[i] - units[j]) for i in range(CHANNELS) for j in range(i)) / largest),
    "cases": [{"threshold": threshold, "left": left(threshold)} for threshold in thresholds],
}
assert len({case["left"] for case in golden["cases"]}) > 4
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
