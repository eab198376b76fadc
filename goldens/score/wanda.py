"""Golden for score/wanda: |W| * sqrt(mean x^2), masks per output. Run: python -P goldens/score/wanda.py"""

import json
import pathlib

import numpy as np

SEED = 12
rng = np.random.default_rng(SEED)


def lists(matrix):
    return np.asarray(matrix, dtype=np.float64).tolist()


def draw(*shape):
    return rng.standard_normal(shape).astype(np.float32)


tokens = 20
w = draw(5, 8)
x = rng.standard_normal((tokens, 8)) * np.exp(rng.standard_normal(8))
scores = np.abs(w.astype(np.float64)) * np.linalg.norm(x, axis=0) / np.sqrt(tokens)

# The paper: within each output the smallest half goes; for 2:4 the two smallest of four inputs go.
half = np.ones(w.shape, dtype=bool)
for o in range(5):
    half[o, np.argsort(scores[o], kind="stable")[:4]] = False
two_of_four = np.ones(w.shape, dtype=bool)
for o in range(5):
    for start in (0, 4):
        two_of_four[o, start + np.argsort(scores[o, start : start + 4], kind="stable")[:2]] = False

# Wanda-sp: o reads G = 2 groups of H / G * D = 3 columns; down reads 7 channels.
o, attended = draw(4, 6), rng.standard_normal((tokens, 6))
down, hidden = draw(4, 7), rng.standard_normal((tokens, 7))


def units(reader, inputs, count):
    metric = np.abs(reader.astype(np.float64)) * np.sqrt((inputs**2).mean(axis=0))
    return metric.sum(axis=0).reshape(count, -1).sum(axis=1)


golden = {
    "made_by": "goldens/score/wanda.py",
    "seed": SEED,
    "numpy": np.__version__,
    "weight": {
        "w": lists(w),
        "mean_square": lists((x**2).mean(axis=0)),
        "scores": lists(scores),
        "half": np.flatnonzero(half).tolist(),
        "two_of_four": np.flatnonzero(two_of_four).tolist(),
    },
    "group": {"reader": lists(o), "mean_square": lists((attended**2).mean(axis=0)), "units": 2,
              "scores": lists(units(o, attended, 2))},
    "channel": {"reader": lists(down), "mean_square": lists((hidden**2).mean(axis=0)), "units": 7,
                "scores": lists(units(down, hidden, 7))},
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
