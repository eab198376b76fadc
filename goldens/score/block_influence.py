"""Golden for score/block_influence: 1 - mean cosine. Run: python -P goldens/score/block_influence.py"""

import json
import pathlib

import numpy as np

SEED = 14
rng = np.random.default_rng(SEED)
cases = []
for step in (0.0, 0.1, 1.0, 10.0):
    before = rng.standard_normal((25, 7))
    after = before + step * rng.standard_normal((25, 7))
    cosine = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    cases.append({"cosine": float(cosine.mean()), "scores": [float((1.0 - cosine).mean())]})

golden = {"made_by": "goldens/score/block_influence.py", "seed": SEED, "numpy": np.__version__, "cases": cases}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
