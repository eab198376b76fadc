"""Golden for compensate/least_squares: numpy's lstsq (SVD) on the tokens themselves, never on moments.

The damping d pulls towards the plain cut: it is written as rows sqrt(T d) I under the centred tokens, which ask the update to
be zero. Run: python -P goldens/compensate/least_squares.py
"""

import json
import pathlib

import numpy as np

SEED = 17
rng = np.random.default_rng(SEED)


def case(tokens, allowed, carried, damping):
    w = rng.standard_normal((5, 7)).astype(np.float32)
    b = rng.standard_normal(5).astype(np.float32) if carried else None
    x = rng.standard_normal((tokens, 7)) @ rng.standard_normal((7, 7)) + rng.standard_normal(7)
    kept, pruned = [0, 2, 3, 6], [1, 4, 5]
    old = b.astype(np.float64) if carried else np.zeros(5)
    w64 = w.astype(np.float64)
    centre = x.mean(axis=0) if allowed else np.zeros(7)
    inputs, lost = (x - centre)[:, kept], (x - centre)[:, pruned] @ w64[:, pruned].T
    absolute = damping * (inputs**2).mean()
    rows = np.sqrt(tokens * absolute) * np.eye(len(kept))
    update = np.linalg.lstsq(np.vstack([inputs, rows]), np.vstack([lost, np.zeros((len(kept), 5))]), rcond=None)[0].T
    weight = w64[:, kept] + update
    bias = old + w64 @ centre - weight @ centre[kept]
    whole = x @ w64.T + old
    plain = x[:, kept] @ w64[:, kept].T + old
    after = x[:, kept] @ weight.T + bias
    return {
        "bias_allowed": allowed,
        "damping": damping,
        "w": w64.tolist(),
        "b": old.tolist() if carried else None,
        "mean": x.mean(axis=0).tolist(),
        "gram": (x.T @ x / tokens).tolist(),
        "kept": kept,
        "weight": weight.tolist(),
        "bias": bias.tolist() if allowed or carried else None,
        "error_before": float(((whole - plain) ** 2).mean()),
        "error_after": float(((whole - after) ** 2).mean()),
    }


golden = {
    "made_by": "goldens/compensate/least_squares.py",
    "seed": SEED,
    "numpy": np.__version__,
    "cases": [
        case(40, True, True, 1e-8),
        case(40, True, False, 1e-2),
        case(40, False, False, 1e-8),
        case(40, False, True, 1e-4),
        # Fewer tokens than inputs: the damping decides.
        case(3, True, False, 1e-4),
    ],
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
