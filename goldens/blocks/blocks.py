"""Golden blocks of every quantised type: random bytes with finite scales, decoded by the `gguf` package (0.19).

Writes blocks.bin beside this script: for each type, in the order of TYPES, BLOCKS blocks of bytes and then their values as
little-endian f32. The test reads any number of blocks, so a larger BLOCKS makes a longer check. Run: python blocks.py
"""

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

# Name, and the byte offsets of the f16 scales in a block.
TYPES = [
    ("Q4_0", [0]),
    ("Q4_1", [0, 2]),
    ("Q5_0", [0]),
    ("Q5_1", [0, 2]),
    ("Q8_0", [0]),
    ("Q4_K", [0, 2]),
    ("Q5_K", [0, 2]),
    ("Q6_K", [208]),
]
BLOCKS = 3

random = np.random.default_rng(20)
with open(Path(__file__).with_suffix(".bin"), "wb") as out:
    for name, scales in TYPES:
        size = GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]
        data = random.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
        for at in scales:
            scale = random.integers(0, 1 << 16, BLOCKS, dtype=np.uint16)
            scale[(scale & 0x7C00) == 0x7C00] ^= 0x4000  # no infinity, no NaN
            data[:, at : at + 2] = scale[:, None].view(np.uint8)
        values = dequantize(data, GGMLQuantizationType[name])
        out.write(data.tobytes() + values.astype("<f4").tobytes())
