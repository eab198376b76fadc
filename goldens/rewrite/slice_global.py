"""Golden for rewrite/slice-global: one basis from the sum of the second moments in front of every part and of the head. The norm divides by
the width before slicing. Run: python goldens/rewrite/slice_global.py"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import numpy as np
import tiny

R = 8
model, texts = tiny.model()
model = tiny.folded(model)
normed = lambda x: tiny.norm(x, 1.0, tiny.C)

moments = np.zeros((tiny.C, tiny.C))
for tokens in texts:
    x = model["embedding"][tokens]
    seen = [x]
    for block in model["blocks"]:
        for inner, writer in ((tiny.heads_mixed, "o"), (tiny.gated, "down")):
            x = x + inner(normed(x), block) @ block[writer].T
            seen.append(x)
    moments += sum(normed(x).T @ normed(x) for x in seen)
sizes, vectors = np.linalg.eigh(moments)
basis = vectors[:, ::-1][:, :R]


def logits(tokens):
    x = (model["embedding"] @ basis)[tokens]
    for block in model["blocks"]:
        for inner, reads, writer in ((tiny.heads_mixed, ("q", "k", "v"), "o"), (tiny.gated, ("gate", "up"), "down")):
            x = x + inner(normed(x), {name: block[name] @ basis for name in reads}) @ (basis.T @ block[writer]).T
    return normed(x) @ (model["head"] @ basis).T


tiny.write(__file__, {"keep": R / tiny.C, "width": R, "gap": float(sizes[::-1][R - 1] / sizes[::-1][R]),
                      "logits": [logits(tokens)[-1].tolist() for tokens in texts]})
