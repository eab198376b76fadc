"""The codebooks of the IQ1, IQ2 and IQ3 types of GGUF, from the constants of the `gguf` package (0.19).

They are part of the format (ggml-common.h of llama.cpp: iq1s_grid, iq2xxs_grid, iq2xs_grid, iq2s_grid, iq3xxs_grid, iq3s_grid).
Writes codebooks.bin into crates/pare-kernels/src/blocks: in the order of BOOKS, each entry's numbers one after the other, the
first in the lowest bits; 2 bits a number for IQ1 and IQ2, 4 for IQ3. What a number stands for is in iq.rs. Run: python codebooks.py
"""

from pathlib import Path

import gguf.quants as quants

BOOKS = ["IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]

target = Path(__file__).resolve().parents[2] / "crates/pare-kernels/src/blocks/codebooks.bin"
target.write_bytes(b"".join(bytes.fromhex(getattr(quants, name).grid_hex.decode()) for name in BOOKS))
