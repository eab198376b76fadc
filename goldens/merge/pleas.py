"""Golden for merge/pleas: scipy's assignment, then least squares over the tokens themselves. Needs scipy.
Run: python -P goldens/merge/pleas.py"""

import json
import pathlib

import numpy as np
import scipy
from scipy.optimize import linear_sum_assignment

SEED = 103
rng = np.random.default_rng(SEED)
C, D, H, G, F, T = 5, 2, 4, 2, 7, 24
DAMPING = 0.01
SHAPES = {"q": (H * D, C), "k": (G * D, C), "v": (G * D, C), "o": (C, H * D), "gate": (F, C), "up": (F, C), "down": (C, F)}
READS = {"q": "attention_in", "k": "attention_in", "v": "attention_in", "o": "attention_out"}
READS |= {"gate": "ffn_in", "up": "ffn_in", "down": "ffn_out"}


def single(values):
    return np.asarray(values).astype(np.float32).astype(np.float64)


def spread(order, width):
    return np.concatenate([np.arange(unit * width, (unit + 1) * width) for unit in order])


groups, channels = np.array([1, 0]), rng.permutation(F)
hidden = {"q": spread(groups, H // G * D), "k": spread(groups, D), "v": spread(groups, D), "gate": channels, "up": channels}
columns = {"o": hidden["q"], "down": channels}
models = [{name: (single(rng.standard_normal(shape)), single(rng.standard_normal(shape[0]))) for name, shape in SHAPES.items()}]
models.append({})
for name, (w, b) in models[0].items():
    rows, cols = hidden.get(name, np.arange(len(b))), columns.get(name, np.arange(w.shape[1]))
    noise = 0.3 * rng.standard_normal(w.shape), 0.3 * rng.standard_normal(b.shape)
    models[1][name] = single((w + noise[0])[np.ix_(rows, cols)]), single((b + noise[1])[rows])
inputs = [{}, {}]
for point, width in [("attention_in", C), ("attention_out", H * D), ("ffn_in", C), ("ffn_out", F)]:
    x = rng.standard_normal((T, width)) @ rng.standard_normal((width, width)) + rng.standard_normal(width)
    y = x + 0.4 * rng.standard_normal((T, width))
    order = {"attention_out": columns["o"], "ffn_out": channels}.get(point, np.arange(width))
    inputs[0][point], inputs[1][point] = x, y[:, order]


def similarity(x, y, units):
    """Cosine of each pair of units, all features of all tokens of a unit as one vector."""
    x, y = (np.moveaxis(v.reshape(T, units, -1), 1, 0).reshape(units, -1) for v in (x, y))
    return (x @ y.T) / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))


def matched(point, units):
    s = similarity(inputs[0][point], inputs[1][point], units)
    rows, cols = linear_sum_assignment(-s)
    return list(zip(rows.tolist(), cols.tolist())), s


def take(pairs, first, second):
    """Merged features: the mean of what both have, or what one has alone."""
    parts = [0.5 * (first[..., i] + second[..., j]) if None not in (i, j) else first[..., i] if j is None else second[..., j] for i, j in pairs]
    return np.stack(parts, axis=-1)


def aligned_average(a, b, outputs, features):
    w = np.zeros((len(outputs), len(features)))
    for row, (i, j) in enumerate(outputs):
        share = 0.5 if None not in (i, j) else 1.0
        for col, (p, q) in enumerate(features):
            w[row, col] += share * a[i, p] if None not in (i, p) else 0.0
            w[row, col] += share * b[j, q] if None not in (j, q) else 0.0
    return w


def solve(name, outputs, features):
    (a, bias_a), (b, bias_b) = models[0][name], models[1][name]
    x, y = inputs[0][READS[name]], inputs[1][READS[name]]
    z = take(features, x, y)
    target = take(outputs, x @ a.T, y @ b.T)
    start = aligned_average(a, b, outputs, features)
    ridge = np.sqrt(DAMPING * (z**2).mean(axis=0).mean()) * np.eye(z.shape[1])
    system = np.vstack([z / np.sqrt(T), ridge])
    right = np.vstack([target / np.sqrt(T), ridge @ start.T])
    w = np.linalg.lstsq(system, right, rcond=None)[0].T
    error = lambda w: float(((z @ w.T - target) ** 2).mean(axis=0).mean())
    return w, take(outputs, bias_a[None], bias_b[None])[0], error(start), error(w)


def case(size):
    together = 2 * F - round(size * F)
    pairs, s = matched("ffn_out", F)
    best = sorted(sorted(range(F), key=lambda i: -s[pairs[i]])[:together])
    features = [pairs[i] if i in best else (i, None) for i in range(F)]
    features += [(None, j) for j in sorted(pairs[i][1] for i in range(F) if i not in best)]
    group_pairs, _ = matched("attention_out", G)
    wide = [(i * H // G * D + n, j * H // G * D + n) for i, j in group_pairs for n in range(H // G * D)]
    narrow = [(i * D + n, j * D + n) for i, j in group_pairs for n in range(D)]
    stream = [(i, i) for i in range(C)]
    outputs = {"q": wide, "k": narrow, "v": narrow, "o": stream, "gate": features, "up": features, "down": stream}
    reads = {"attention_in": stream, "attention_out": wide, "ffn_in": stream, "ffn_out": features}
    solved = {name: solve(name, outputs[name], reads[READS[name]]) for name in SHAPES}
    return {
        "size": size,
        "channels": features,
        "groups": [j for _, j in group_pairs],
        "merged": {name: {"w": w.tolist(), "b": b.tolist()} for name, (w, b, _, _) in solved.items()},
        "error_before": sum(before for _, _, before, _ in solved.values()),
        "error_after": sum(after for _, _, _, after in solved.values()),
    }


golden = {
    "made_by": "goldens/merge/pleas.py",
    "seed": SEED,
    "numpy": np.__version__,
    "scipy": scipy.__version__,
    "heads": H,
    "kv_groups": G,
    "damping": DAMPING,
    "models": [{name: {"w": w.tolist(), "b": b.tolist()} for name, (w, b) in model.items()} for model in models],
    "inputs": [{point: x.tolist() for point, x in model.items()} for model in inputs],
    "cases": [case(1.0), case(1.4), case(2.0)],
}
assert golden["cases"][0]["groups"] == groups.argsort().tolist()
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
