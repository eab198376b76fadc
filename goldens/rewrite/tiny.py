"""A tiny llama in plain numpy, float64, for the goldens of this folder. Run: python goldens/rewrite/tiny.py, which writes tiny.json

Weights are whole numbers divided by 64, so that both sides read exactly the same. Vectors are rows; matrices are [out, in].
"""

import json
import pathlib

import numpy as np

SEED = 41
V, C, H, G, D, F, BLOCKS, EPS, THETA = 19, 12, 4, 2, 4, 10, 5, 1e-3, 10000.0
MATRICES = {"q": (H * D, C), "k": (G * D, C), "v": (G * D, C), "o": (C, H * D), "gate": (F, C), "up": (F, C), "down": (C, F)}


def whole(rng, shape, scale, centre=0.0):
    return np.round(64 * (centre + scale * rng.standard_normal(shape)))


def drawn():
    """The model and texts as whole numbers, in 64ths."""
    rng = np.random.default_rng(SEED)
    blocks = []
    for _ in range(BLOCKS):
        block = {name: whole(rng, shape, 0.7 / np.sqrt(shape[1])) for name, shape in MATRICES.items()}
        block["attention_norm"], block["ffn_norm"] = whole(rng, C, 0.3, 1.0), whole(rng, C, 0.3, 1.0)
        blocks.append(block)
    tokens = rng.integers(0, V, (6, 25))
    return {"embedding": whole(rng, (V, C), 0.8), "final_norm": whole(rng, C, 0.3, 1.0), "blocks": blocks}, tokens


def model():
    """The model: embedding, head, final_norm and blocks in float64."""
    numbers, tokens = drawn()
    scale = lambda a: a / 64.0
    blocks = [{name: scale(a) for name, a in block.items()} for block in numbers["blocks"]]
    embedding = scale(numbers["embedding"])
    return {"embedding": embedding, "head": embedding, "final_norm": scale(numbers["final_norm"]), "blocks": blocks}, tokens


def norm(x, gain, over=None):
    """RMS norm; the mean square is over `over` dimensions."""
    return x / np.sqrt((x * x).sum(-1, keepdims=True) / (over or x.shape[-1]) + EPS) * gain


def heads_mixed(y, block):
    """What o reads, [T, H D], from what q, k and v read."""
    steps = len(y)
    q, k, v = (y @ block[name].T for name in "qkv")
    heads, groups = q.shape[1] // D, k.shape[1] // D
    angle = np.arange(steps)[:, None] * THETA ** (-np.arange(0, D, 2) / D)
    cos, sin = np.cos(angle), np.sin(angle)

    def turned(a):
        first, second = a[:, : D // 2], a[:, D // 2 :]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], 1)

    parts = []
    for head in range(heads):
        group = head // (heads // groups)
        own = slice(group * D, (group + 1) * D)
        scores = turned(q[:, head * D : (head + 1) * D]) @ turned(k[:, own]).T / np.sqrt(D)
        scores[np.triu_indices(steps, 1)] = -np.inf
        weights = np.exp(scores - scores.max(1, keepdims=True))
        parts.append(weights / weights.sum(1, keepdims=True) @ v[:, own])
    return np.concatenate(parts, 1)


def gated(y, block):
    """What down reads, [T, F]."""
    gate = y @ block["gate"].T
    return gate / (1 + np.exp(-gate)) * (y @ block["up"].T)


def forward(m, tokens, seen=None):
    """Logits [T, V]; `seen` is told what passes: (name, block, values)."""
    tell = seen or (lambda *_: None)
    x = m["embedding"][tokens]
    for index, block in enumerate(m["blocks"]):
        tell("input", index, x)
        z = heads_mixed(norm(x, block["attention_norm"]), block)
        tell("o", index, z)
        x = x + z @ block["o"].T
        z = gated(norm(x, block["ffn_norm"]), block)
        tell("down", index, z)
        x = x + z @ block["down"].T
    tell("input", len(m["blocks"]), x)
    return norm(x, m["final_norm"]) @ m["head"].T


def collected(m, texts, name, block):
    """Everything of one kind that passed, [tokens, width]."""
    rows = []
    for tokens in texts:
        forward(m, tokens, lambda n, b, values: rows.append(values) if (n, b) == (name, block) else None)
    return np.concatenate(rows)


def divergence(original, other, texts):
    """Mean KL over all positions but the last of each text."""
    def log_softmax(z):
        z = z - z.max(1, keepdims=True)
        return z - np.log(np.exp(z).sum(1, keepdims=True))

    both = [(log_softmax(forward(original, t)), log_softmax(forward(other, t))) for t in texts]
    return float(np.mean(np.concatenate([(np.exp(p) * (p - q)).sum(1)[:-1] for p, q in both])))


def folded(m, last=True):
    """Gains of norms folded into what reads behind them."""
    blocks = []
    for block in m["blocks"]:
        new = dict(block)
        for name in "qkv":
            new[name] = block[name] * block["attention_norm"]
        for name in ("gate", "up"):
            new[name] = block[name] * block["ffn_norm"]
        new["attention_norm"] = new["ffn_norm"] = np.ones(C)
        blocks.append(new)
    new = {**m, "blocks": blocks}
    return {**new, "head": m["head"] * m["final_norm"], "final_norm": np.ones(C)} if last else new


def write(script, results):
    """`results` beside the script, which says what made them."""
    path = pathlib.Path(script)
    golden = {"made_by": f"goldens/rewrite/{path.name}", "seed": SEED, "numpy": np.__version__, **results}
    path.with_suffix(".json").write_text(json.dumps(golden) + "\n")


def last_logits(m, texts, run=forward):
    """Logits of the last position of each text."""
    return [run(m, tokens)[-1].tolist() for tokens in texts]


if __name__ == "__main__":
    numbers, tokens = drawn()
    plain = lambda value: value.astype(int).tolist()
    blocks = [{name: plain(a) for name, a in block.items()} for block in numbers["blocks"]]
    sizes = {"vocab": V, "width": C, "heads": H, "groups": G, "head_dim": D, "ffn": F, "eps": EPS, "theta": THETA}
    m, texts = model()
    write(__file__, {"sizes": sizes, "embedding": plain(numbers["embedding"]), "final_norm": plain(numbers["final_norm"]),
                     "blocks": blocks, "tokens": tokens.tolist(), "logits": last_logits(m, texts)})
