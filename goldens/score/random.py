"""Golden for score/random: SplitMix64 in Python's unbounded integers. Run: python -P goldens/score/random.py

Draws are written as the integers 0..2^53 that they are the numerators of.
"""

import json
import pathlib

import numpy as np

MASK = (1 << 64) - 1


def step(state):
    z = (state + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def draws(seed, block, point, projection, units):
    state = seed
    for value in (block, point, projection):
        state = step((state + value) & MASK)
    return [step((state + unit) & MASK) >> 11 for unit in range(units)]


cases = [
    # ffn output of block 0: point 3; no projection: 0
    {"seed": 0, "block": 0, "grain": "channel", "numerators": draws(0, 0, 3, 0, 6)},
    {"seed": MASK, "block": 29, "grain": "channel", "numerators": draws(MASK, 29, 3, 0, 6)},
    # the whole of block 5: point 6
    {"seed": 42, "block": 5, "grain": "block", "numerators": draws(42, 5, 6, 0, 1)},
    # weights of up in block 1: point 2, projection 6
    {"seed": 42, "block": 1, "grain": "weight", "numerators": draws(42, 1, 2, 6, 6)},
]
golden = {"made_by": "goldens/score/random.py", "seed": None, "numpy": np.__version__, "cases": cases}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
