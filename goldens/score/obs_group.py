"""Golden for score/obs_group: half the damped error left by a cut and its best repair. Run: python -P goldens/score/obs_group.py"""

import json
import pathlib

import numpy as np

SEED = 33
rng = np.random.default_rng(SEED)
TOKENS = 40


def left(w, hessian, cut):
    """The cut columns go, the kept ones are re-solved; what remains is measured. No inverse of the whole matrix is formed."""
    kept = np.setdiff1d(np.arange(w.shape[1]), cut)
    change = np.zeros_like(w)
    change[:, cut] = w[:, cut]
    change[:, kept] = -np.linalg.solve(hessian[np.ix_(kept, kept)], hessian[np.ix_(kept, cut)] @ w[:, cut].T).T
    return 0.5 * float(np.trace(change @ hessian @ change.T))


def case(out, units, columns):
    w = rng.standard_normal((out, units * columns)).astype(np.float32).astype(np.float64)
    x = rng.standard_normal((TOKENS, units * columns)) @ rng.standard_normal((units * columns, units * columns))
    gram = x.T @ x / TOKENS
    hessian = gram + 0.01 * np.mean(np.diag(gram)) * np.eye(gram.shape[0])
    return {
        "reader": w.tolist(),
        "gram": gram.tolist(),
        "units": units,
        "scores": [left(w, hessian, np.arange(u * columns, (u + 1) * columns)) for u in range(units)],
        "weights": [[left(w[o : o + 1], hessian, np.array([j])) for j in range(w.shape[1])] for o in range(out)],
    }


golden = {
    "made_by": "goldens/score/obs_group.py",
    "seed": SEED,
    "numpy": np.__version__,
    "channel": case(4, 7, 1),
    "group": case(5, 3, 4),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
