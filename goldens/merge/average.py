"""Golden for merge/average: the middle of two feed-forward parts. Run: python -P goldens/merge/average.py"""

import json
import pathlib

import numpy as np

SEED = 203
rng = np.random.default_rng(SEED)
hidden, width = 4, 6
shapes = {"gate": (width, hidden), "up": (width, hidden), "down": (hidden, width)}
models = [
    {name: rng.standard_normal(shape).astype(np.float32).astype(np.float64) for name, shape in shapes.items()}
    for _ in range(2)
]
norms = [rng.standard_normal(hidden).astype(np.float32).astype(np.float64) for _ in range(2)]
golden = {
    "made_by": "goldens/merge/average.py",
    "seed": SEED,
    "numpy": np.__version__,
    "models": [{name: w.tolist() for name, w in model.items()} for model in models],
    "norms": [norm.tolist() for norm in norms],
    "merged": {
        name: np.mean([model[name] for model in models], axis=0).astype(np.float32).astype(np.float64).tolist()
        for name in shapes
    },
    "norm": np.mean(norms, axis=0).astype(np.float32).astype(np.float64).tolist(),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
