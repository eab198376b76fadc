"""Golden for rewrite/slice: SliceGPT (arXiv:2401.15024) part by part, signals taken again behind what was sliced. Every part and the head
have the width R. The norm divides by the width before slicing, as the paper's does. Run: python goldens/rewrite/slice.py"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import numpy as np
import tiny

R = 8
model, texts = tiny.model()
model = tiny.folded(model)
normed = lambda x: tiny.norm(x, 1.0, tiny.C)
gaps = []


def axes(signals):
    """The first R eigenvectors of the second moments of the normed signals."""
    values = normed(np.concatenate(signals))
    sizes, vectors = np.linalg.eigh(values.T @ values / len(values))
    gaps.append(float(sizes[::-1][R - 1] / sizes[::-1][R]))
    return vectors[:, ::-1][:, :R]


# Signals in the coordinates of the basis in front of the next part; `full` are the same in all dimensions, before that basis is chosen.
full = [model["embedding"][tokens] for tokens in texts]
basis = axes(full)
signals = [x @ basis for x in full]
for block in model["blocks"]:
    for inner, reads, writer in ((tiny.heads_mixed, ("q", "k", "v"), "o"), (tiny.gated, ("gate", "up"), "down")):
        narrow = {name: block[name] @ basis for name in reads}
        outputs = [inner(normed(x), narrow) for x in signals]
        full = [x @ basis.T + z @ block[writer].T for x, z in zip(signals, outputs)]
        after = axes(full)
        shortcut, written = basis.T @ after, after.T @ block[writer]
        signals = [x @ shortcut + z @ written.T for x, z in zip(signals, outputs)]
        basis = after
logits = [(normed(x) @ (model["head"] @ basis).T)[-1].tolist() for x in signals]
tiny.write(__file__, {"keep": R / tiny.C, "width": R, "smallest_gap": min(gaps), "logits": logits})
