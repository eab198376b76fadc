"""Golden for the number of parameters that slicing leaves, tensor by tensor from shapes alone. Run: python goldens/rewrite/slice_parameters.py

OPT-125M: SliceGPT's own test (microsoft/TransformerCompression, tests/test_experiments.py) says 147 250 880 at a sparsity of 20 %.
"""

import json
import math
import pathlib


def opt(sliced):
    """Shapes of OPT-125M's tensors; sliced as SliceGPT does it: norms without weights, head left whole with the bias of the last norm."""
    full, ffn, vocab, positions = 768, 3072, 50272, 2050
    width = 608 if sliced else full
    shapes = [(vocab, width), (positions, width)]
    for block in range(12):
        out = full if block == 11 else width
        for _ in "qkv":
            shapes += [(full, width), (full,)]
        shapes += [(width, full), (width,), (ffn, width), (ffn,), (out, ffn), (out,)]
        shapes += [(width, width), (width, out)] if sliced else [(full,)] * 4
    shapes += [(vocab, full), (vocab,)] if sliced else [(full,), (full,)]
    return shapes


def smollm(width, tied, shortcuts=False):
    """Shapes of SmolLM2-135M's tensors at a width of the residual stream."""
    shapes = [(49152, width)] * (1 if tied else 2)
    for _ in range(30):
        shapes += [(576, width), (192, width), (192, width), (width, 576), (1536, width), (1536, width), (width, 1536), (width,), (width,)]
        shapes += [(width, width)] * 2 if shortcuts else []
    return shapes + [(width,)]


count = lambda shapes: sum(math.prod(shape) for shape in shapes)
golden = {
    "made_by": "goldens/rewrite/slice_parameters.py",
    "opt_125m": count(opt(False)),
    "opt_125m_sliced": count(opt(True)),
    "smollm2_135m": count(smollm(576, True)),
    "smollm2_135m_456_untied": count(smollm(456, False)),
    "smollm2_135m_456_tied": count(smollm(456, True)),
    "smollm2_135m_456_shortcuts": count(smollm(456, False, True)),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
