"""Golden blocks of the types that are read but not made: random bytes with finite scales, decoded by the `gguf` package (0.19).

Writes read.bin beside this script: for each type, in the order of TYPES, BLOCKS blocks of bytes and then their values as
little-endian f32. The first blocks have the scales 0, the smallest, the largest and the largest negative f16. Run: python read.py
"""

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

# Name, and the byte offsets of the f16 scales in a block.
TYPES = [
    ("Q2_K", [80, 82]),
    ("Q3_K", [108]),
    ("IQ1_S", [0]),
    ("IQ1_M", None),
    ("IQ2_XXS", [0]),
    ("IQ2_XS", [0]),
    ("IQ2_S", [0]),
    ("IQ3_XXS", [0]),
    ("IQ3_S", [0]),
    ("IQ4_NL", [0]),
    ("IQ4_XS", [0]),
    ("TQ1_0", [52]),
    ("TQ2_0", [64]),
    ("MXFP4", []),
]
BLOCKS = 8
EXTREME = np.array([0, 1, 0x7BFF, 0xFBFF], dtype=np.uint16)

random = np.random.default_rng(21)
with open(Path(__file__).with_suffix(".bin"), "wb") as out:
    for name, scales in TYPES:
        size = GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]
        data = random.integers(0, 256, (BLOCKS, size), dtype=np.uint8)

        def scale():
            scale = random.integers(0, 1 << 16, BLOCKS, dtype=np.uint16)
            scale[(scale & 0x7C00) == 0x7C00] ^= 0x4000  # no infinity, no NaN
            scale[: len(EXTREME)] = EXTREME
            return scale

        if scales is None:  # a quarter of the scale in the high bits of each of the last four words
            words = data[:, 48:].view(np.uint16)
            parts = scale()[:, None] >> np.array([0, 4, 8, 12], dtype=np.uint16) << np.uint16(12)
            data[:, 48:] = ((words & np.uint16(0x0FFF)) | parts).view(np.uint8)
        for at in scales or []:
            data[:, at : at + 2] = scale()[:, None].view(np.uint8)
        if name == "MXFP4":
            data[:, 0] = [0, 1, 2, 252, *random.integers(3, 252, BLOCKS - 4)]  # from 253 on, some codes overflow f32
        values = dequantize(data, GGMLQuantizationType[name])
        assert np.isfinite(values).all()
        out.write(data.tobytes() + values.astype("<f4").tobytes())
