"""Golden blocks of the encoders of 32 values: f32 values, encoded by the `gguf` package (0.19).

Writes encode.bin beside this script: BLOCKS blocks of values as little-endian f32, then for each type, in the order of TYPES, the bytes
of those blocks. The values are of several sizes, with blocks of zeros, of one value and of one sign. Run: python encode.py
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import quantize

TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
BLOCKS = 24

random = np.random.default_rng(21)
values = random.standard_normal((BLOCKS, 32)) * np.exp2(random.integers(-12, 6, (BLOCKS, 1)))
values = values.astype("<f4")
values[0] = 0
values[1] = 0.75
values[2] = np.abs(values[2])
values[3] = -np.abs(values[3])
values[4, 5:7] = [-9, 9]  # two values of the largest magnitude: the first decides
values[5] = np.arange(32) - 15.5  # halves between two codes
with open(Path(__file__).with_suffix(".bin"), "wb") as out:
    out.write(values.tobytes())
    for name in TYPES:
        out.write(quantize(values, GGMLQuantizationType[name]).tobytes())
