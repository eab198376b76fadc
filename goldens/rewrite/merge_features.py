"""Golden for rewrite/merge-features: the nearest pair of all, found anew each time. Run: python -P goldens/rewrite/merge_features.py"""

import json
import pathlib

import numpy as np

SEED = 96
rng = np.random.default_rng(SEED)


def merge(gate, up, down, quota):
    groups = [([i], gate[i], up[i], down[:, i]) for i in range(len(gate))]
    while len(groups) > quota:
        best = None
        for a in range(len(groups)):
            for b in range(a + 1, len(groups)):
                distance = sum(np.linalg.norm(groups[a][part] - groups[b][part]) ** 2 for part in (1, 2, 3))
                if best is None or distance < best[0]:
                    best = (distance, a, b)
        _, a, b = best
        members = groups[a][0] + groups[b][0]
        groups[a] = (members, gate[members].mean(axis=0), up[members].mean(axis=0), down[:, members].mean(axis=1))
        del groups[b]
    return {
        "quota": quota,
        "members": [sorted(group[0]) for group in groups],
        "gate": [group[1].tolist() for group in groups],
        "up": [group[2].tolist() for group in groups],
        "down": np.stack([down[:, group[0]].sum(axis=1) for group in groups], axis=1).tolist(),
    }


width, hidden = 14, 5
gate, up = (rng.standard_normal((width, hidden)).astype(np.float32).astype(np.float64) for _ in range(2))
down = rng.standard_normal((hidden, width)).astype(np.float32).astype(np.float64)
# Near copies, at several distances.
for copy, original, noise in [(3, 9, 0.01), (12, 4, 0.1), (13, 4, 0.2), (7, 0, 0.4)]:
    for m in (gate, up, down.T):
        m[copy] = (m[original] + noise * rng.standard_normal(hidden)).astype(np.float32)
golden = {
    "made_by": "goldens/rewrite/merge_features.py",
    "seed": SEED,
    "numpy": np.__version__,
    "gate": gate.tolist(),
    "up": up.tolist(),
    "down": down.tolist(),
    "cases": [merge(gate, up, down, quota) for quota in (13, 10, 7, 1)],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
