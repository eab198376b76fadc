"""Golden blocks of every quantised type: random bytes with finite scales, decoded by the `gguf` package.

Writes blocks.bin beside this script: for each type, in the order of TYPES, 3 blocks of bytes and then their values as little-endian f32.
Run: python blocks.py   (needs numpy and gguf; made with gguf 0.17 or later)
`python blocks.py check NAME IN OUT` instead decodes the bytes of file IN as type NAME into file OUT.
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

# Name, and the byte offsets of the f16 scales in a block.
TYPES = [("Q4_0", [0]), ("Q4_1", [0, 2]), ("Q5_0", [0]), ("Q5_1", [0, 2]), ("Q8_0", [0]), ("Q4_K", [0, 2]), ("Q5_K", [0, 2]), ("Q6_K", [208])]
BLOCKS = 3


def blocks(name, scales, count, random):
    size = GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]
    data = random.integers(0, 256, (count, size), dtype=np.uint8)
    for at in scales:
        scale = random.integers(0, 1 << 16, count, dtype=np.uint16)
        scale[(scale & 0x7C00) == 0x7C00] ^= 0x4000  # no infinity, no NaN
        data[:, at : at + 2] = scale[:, None].view(np.uint8)
    return data


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        name, source, target = sys.argv[2:]
        data = np.fromfile(source, dtype=np.uint8)
        dequantize(data, GGMLQuantizationType[name]).astype("<f4").tofile(target)
    else:
        random = np.random.default_rng(20)
        with open(Path(__file__).with_suffix(".bin"), "wb") as out:
            for name, scales in TYPES:
                data = blocks(name, scales, BLOCKS, random)
                values = dequantize(data, GGMLQuantizationType[name])
                out.write(data.tobytes() + values.astype("<f4").tobytes())
