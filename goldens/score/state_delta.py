"""Golden for score/state_delta: mean of |after - before| / |before|. Run: python -P goldens/score/state_delta.py"""

import json
import pathlib

import numpy as np

SEED = 34
rng = np.random.default_rng(SEED)


def case(before, after):
    ratio = float(np.mean(np.linalg.norm(after - before, axis=1) / np.linalg.norm(before, axis=1)))
    return {"delta_ratio": ratio, "scores": [ratio]}


state = rng.standard_normal((9, 5))
golden = {
    "made_by": "goldens/score/state_delta.py",
    "seed": SEED,
    "numpy": np.__version__,
    # A part that adds nothing, one that doubles the state without turning it, one that turns it over, and two at random.
    "cases": [case(state, after) for after in (state, 2 * state, -state, state + rng.standard_normal((9, 5)),
                                               state + 0.01 * rng.standard_normal((9, 5)))],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
