"""Importance matrices as llama.cpp keeps them: GGUF by the gguf package, the binary form byte by byte, and the means that both say.

    python goldens/imatrix/imatrix.py

Needs `numpy` and `gguf`. The layouts are those of tools/imatrix/imatrix.cpp of llama.cpp. Writes tiny.gguf, tiny.dat and tiny.json.
"""

import json
import pathlib
import struct
from importlib.metadata import version

import gguf
import numpy as np

HERE = pathlib.Path(__file__).parent
SEED = 20261128
rng = np.random.default_rng(SEED)

# Widths differ; one input is always zero; counts differ and fit no whole number of chunks.
CHUNK = 48
TEXTS = ["speeches.txt", "näher.txt"]
SIZES = {"blk.0.attn_q.weight": (8, 100), "blk.0.ffn_down.weight": (5, 97), "blk.1.attn_output.weight": (3, 48)}
entries = {}
for name, (width, tokens) in SIZES.items():
    inputs = rng.normal(size=(tokens, width)) * np.logspace(-2, 1, width)
    inputs[:, 1] = 0.0
    entries[name] = ((inputs**2).sum(axis=0).astype(np.float32), tokens, inputs.sum(axis=0).astype(np.float32))
chunks = max(tokens for _, tokens, _ in entries.values()) // CHUNK

writer = gguf.GGUFWriter(HERE / "tiny.gguf", "none")
del writer.kv_data[0]["general.architecture"]  # An importance matrix names none.
writer.add_type("imatrix")
writer.add_array("imatrix.datasets", TEXTS)
writer.add_uint32("imatrix.chunk_count", chunks)
writer.add_uint32("imatrix.chunk_size", CHUNK)
for name, (sums, tokens, plain) in entries.items():
    writer.add_tensor(name + ".in_sum2", sums[None, :])
    writer.add_tensor(name + ".counts", np.array([[tokens]], dtype=np.float32))
    # Newer files hold the sums of the inputs themselves, too.
    writer.add_tensor(name + ".in_sum", plain[None, :])
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

out = struct.pack("<i", len(entries))
for name in sorted(entries):
    sums, tokens, _ = entries[name]
    calls = -(-tokens // CHUNK)
    raw = name.encode()
    out += struct.pack("<i", len(raw)) + raw + struct.pack("<ii", calls, len(sums))
    out += (sums / np.float32(tokens) * np.float32(calls)).astype("<f4").tobytes()
text = TEXTS[-1].encode()
out += struct.pack("<i", chunks) + struct.pack("<i", len(text)) + text
(HERE / "tiny.dat").write_bytes(out)

expected = {
    "made_by": f"goldens/imatrix/imatrix.py, seed {SEED}, numpy {np.__version__}, gguf {version('gguf')}",
    "texts": TEXTS,
    "chunks": chunks,
    "chunk_tokens": CHUNK,
    "means": {name: (sums.astype(np.float64) / tokens).tolist() for name, (sums, tokens, _) in entries.items()},
}
(HERE / "tiny.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
