"""Golden for rewrite/fold-norm: gains times columns, the last norm left alone. Run: python goldens/rewrite/fold_norm.py"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny

model, texts = tiny.model()
after = tiny.folded(model, last=False)
flat = lambda a: a.reshape(-1).tolist()
blocks = [{name: flat(block[name]) for name in ("q", "k", "v", "gate", "up")} for block in after["blocks"][:2]]
tiny.write(__file__, {"blocks": blocks, "logits": tiny.last_logits(after, texts)})
