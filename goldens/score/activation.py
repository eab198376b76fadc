"""Golden for score/activation: mean |x| over tokens and a unit's columns. Run: python -P goldens/score/activation.py"""

import json
import pathlib

import numpy as np

SEED = 13
rng = np.random.default_rng(SEED)
x = rng.standard_normal((30, 12))

golden = {
    "made_by": "goldens/score/activation.py",
    "seed": SEED,
    "numpy": np.__version__,
    "mean_abs": np.abs(x).mean(axis=0).tolist(),
    "channel": {"units": 12, "scores": np.abs(x).mean(axis=0).tolist()},
    "group": {"units": 3, "scores": [float(np.abs(x[:, 4 * g : 4 * g + 4]).mean()) for g in range(3)]},
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
