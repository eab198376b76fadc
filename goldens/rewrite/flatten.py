"""Golden for rewrite/flatten: FlattenGPT (arXiv:2602.08858) with whole KV groups, a refit of o, and a block dropped where merging diverges
more. Run: python goldens/rewrite/flatten.py"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import numpy as np
import tiny
from tiny import C, D, F, G, H

DAMPING, FACTOR, KEEP = 0.01, 10.0, 0.4
original, texts = tiny.model()
margins = []


def cosine(a, b):
    return float(np.mean((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))))


def top(scores, count):
    order = np.argsort(-np.array(scores), kind="stable")
    margins.append(float(scores[order[count - 1]] / scores[order[count]]))
    return np.sort(order[:count])


def refit(w, m, kept):
    """W_K + W_P M_PK (M_KK + d I)^-1."""
    lost = np.setdiff1d(np.arange(len(m)), kept)
    among = m[np.ix_(kept, kept)]
    ridge = DAMPING * np.trace(among) / len(kept)
    return w[:, kept] + w[:, lost] @ m[np.ix_(lost, kept)] @ np.linalg.inv(among + ridge * np.eye(len(kept)))


def merged(m, at):
    a, b = tiny.folded(m, last=False)["blocks"][at : at + 2]
    block = {name: np.concatenate([a[name], b[name]]) for name in ("q", "k", "v", "gate", "up")}
    block |= {name: np.concatenate([a[name], b[name]], 1) for name in ("o", "down")}
    block |= {"attention_norm": np.ones(C), "ffn_norm": np.ones(C)}
    new = {**m, "blocks": m["blocks"][:at] + [block] + m["blocks"][at + 2 :]}
    z = tiny.collected(new, texts, "o", at)
    queries = H // G * D
    groups = np.arange(2 * G)
    writes = [np.mean(((z[:, g * queries : (g + 1) * queries] @ block["o"][:, g * queries : (g + 1) * queries].T) ** 2).sum(1)) for g in groups]
    kept = top(writes, G)
    wide = np.concatenate([np.arange(g * queries, (g + 1) * queries) for g in kept])
    narrow = np.concatenate([np.arange(g * D, (g + 1) * D) for g in kept])
    block["o"] = refit(block["o"], z.T @ z / len(z), wide)
    block["q"], block["k"], block["v"] = block["q"][wide], block["k"][narrow], block["v"][narrow]
    z = tiny.collected(new, texts, "down", at)
    moments = z.T @ z / len(z)
    ridge = FACTOR * np.trace(moments) / (2 * F)
    kept = top(np.diag(moments @ np.linalg.inv(moments + ridge * np.eye(2 * F))), F)
    block["down"] = refit(block["down"], moments, kept)
    block["gate"], block["up"] = block["gate"][kept], block["up"][kept]
    return new


def without(m, at):
    return {**m, "blocks": m["blocks"][:at] + m["blocks"][at + 1 :]}


model, steps = original, []
for _ in range(round((1 - KEEP) * len(original["blocks"]))):
    inputs = [tiny.collected(model, texts, "input", b) for b in range(len(model["blocks"]))]
    cosines = [cosine(a, b) for a, b in zip(inputs, inputs[1:])]
    at = int(np.argmax(cosines))
    candidates = [merged(model, at), without(model, at), without(model, at + 1)]
    tried = [tiny.divergence(original, candidate, texts) for candidate in candidates]
    steps.append({"pair": at, "cosine": cosines[at], "divergences": tried})
    model = candidates[int(np.argmin(tried))]
tiny.write(__file__, {"keep": KEEP, "damping": DAMPING, "factor": FACTOR, "steps": steps, "closest_choice": min(margins),
                      "logits": tiny.last_logits(model, texts)})
