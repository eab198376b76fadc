"""Golden for rewrite/neighbour-average: the mean of two neighbours in place of both, where the divergence is least.
Run: python goldens/rewrite/neighbour_average.py"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import numpy as np
import tiny

KEEP = 0.6
original, texts = tiny.model()
model, steps = original, []
for _ in range(round((1 - KEEP) * len(original["blocks"]))):
    blocks = model["blocks"]
    candidates = []
    for at in range(len(blocks) - 1):
        mean = {name: (blocks[at][name] + blocks[at + 1][name]) / 2 for name in blocks[at]}
        candidates.append({**model, "blocks": blocks[:at] + [mean] + blocks[at + 2 :]})
    tried = [tiny.divergence(original, candidate, texts) for candidate in candidates]
    steps.append({"pair": int(np.argmin(tried)), "divergences": tried})
    model = candidates[int(np.argmin(tried))]
tiny.write(__file__, {"keep": KEEP, "steps": steps, "logits": tiny.last_logits(model, texts)})
