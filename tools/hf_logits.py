"""Logits of a Hugging Face directory, in plain numpy: a second opinion that shares no code with pare or transformers.

usage: hf_logits.py DIR --ids 1,2,3 [--out x.npy] [--json]   all logits [T, V] to a file; the five best per position
       hf_logits.py DIR --check FILE [--tolerance 2e-3]      exit 1 when a logit is further off than the tolerance
FILE holds {"prompts": [{"ids": [...], "logits": [...]}]}, logits of the last position. --dtype float64 uses doubles.

Reads config.json and *.safetensors only. Families: llama, mistral, qwen2, qwen3. The key "pare" in config.json gives
widths block by block: {"blocks": [{"attention": {"heads": 9, "kv_heads": 3} | null, "ffn": 1536 | null}, ...]}; the
tensors of a part that is null are absent, its norm with them. {"shortcuts": true} there: x becomes S x beside each
part. Weights in the forms of docs/FORMAT.md become dense first.
"""
import argparse
import glob
import json
import math
import os
import sys

import numpy as np


def read_safetensors(directory):
    """name -> f32 array over every shard of `directory`."""
    index = os.path.join(directory, "model.safetensors.index.json")
    if os.path.exists(index):
        with open(index, encoding="utf-8") as f:
            files = sorted(os.path.join(directory, n) for n in set(json.load(f)["weight_map"].values()))
    else:
        files = sorted(glob.glob(os.path.join(directory, "*.safetensors")))
    tensors = {}
    for path in files:
        raw = np.memmap(path, np.uint8, "r")
        start = 8 + int(raw[:8].view("<u8")[0])
        for name, t in json.loads(raw[8:start].tobytes()).items():
            if name == "__metadata__":
                continue
            data = raw[start + t["data_offsets"][0] : start + t["data_offsets"][1]].tobytes()
            if t["dtype"] == "BF16":
                values = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
            elif t["dtype"] in INTEGERS:
                values = np.frombuffer(data, INTEGERS[t["dtype"]])
            else:
                values = np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[t["dtype"]]).astype("<f4")
            tensors[name] = values.reshape(t["shape"])
    return tensors


# The forms of docs/FORMAT.md, each to the dense f32 matrix that it stands for.
INTEGERS = {"U8": "u1", "I8": "i1", "U16": "<u2", "I64": "<i8", "U64": "<u8"}
BLOCKS = {"q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24), "q8_0": (32, 34),
          "q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210)}


def blocks(kind, raw):
    """[out, in] from the bytes [out, bytes of a row] of quantised blocks."""
    values, size = BLOCKS[kind]
    b = raw.reshape(-1, size)
    half = lambda at: np.ascontiguousarray(b[:, at : at + 2]).view("<f2").astype("f4")
    nibbles = lambda at, n: np.concatenate([b[:, at : at + n] & 15, b[:, at : at + n] >> 4], 1).astype("f4")
    fifth = lambda at: (np.unpackbits(b[:, at : at + 4], axis=1, bitorder="little") * np.uint8(16)).astype("f4")
    if kind == "q8_0":
        w = b[:, 2:].view("i1").astype("f4") * half(0)
    elif kind == "q4_0":
        w = (nibbles(2, 16) - 8) * half(0)
    elif kind == "q4_1":
        w = nibbles(4, 16) * half(0) + half(2)
    elif kind == "q5_0":
        w = (nibbles(6, 16) + fifth(2) - 16) * half(0)
    elif kind == "q5_1":
        w = (nibbles(8, 16) + fifth(4)) * half(0) + half(2)
    elif kind == "q6_k":
        low, high = b[:, :128].reshape(-1, 2, 2, 32), b[:, 128:192].reshape(-1, 2, 1, 32)
        code = np.concatenate([low & 15, low >> 4], 2) | (high >> np.array([0, 2, 4, 6], "u1")[:, None] & 3) << 4
        scale = np.repeat(half(208) * b[:, 192:208].view("i1").astype("f4"), 16, 1)
        w = scale * (code.reshape(-1, 256).astype("f4") - 32)
    else:
        s, at = b[:, 4:16], 16 if kind == "q4_k" else 48
        scale = np.concatenate([s[:, :4] & 63, s[:, 8:] & 15 | s[:, :4] >> 6 << 4], 1).astype("f4")
        least = np.concatenate([s[:, 4:8] & 63, s[:, 8:] >> 4 | s[:, 4:8] >> 6 << 4], 1).astype("f4")
        low = b[:, at:].reshape(-1, 4, 1, 32)
        code = np.concatenate([low & 15, low >> 4], 2).reshape(-1, 8, 32)
        if kind == "q5_k":
            code = code | (b[:, None, 16:48] >> np.arange(8, dtype="u1")[:, None] & 1) << 4
        each = lambda factors: np.repeat(factors, 32, 1)
        w = each(half(0) * scale) * code.reshape(-1, 256).astype("f4") - each(half(2) * least)
    return w.reshape(len(raw), -1).astype("f4")


def two_of_four(t, columns):
    """[out, in] from positions, values and perhaps scales."""
    values = t["values"].astype("f4")
    rows, kept = values.shape
    nibble = np.stack([t["positions"] & 15, t["positions"] >> 4], 2).reshape(rows, -1)[:, : kept // 2].astype("i8")
    at = np.stack([nibble & 3, nibble >> 2], 2) + 4 * np.arange(kept // 2)[:, None]
    if "scales" in t:
        values = values * np.repeat(t["scales"], 16, 1)[:, :kept]
    w = np.zeros((rows, 2 * kept), "f4")
    np.put_along_axis(w, at.reshape(rows, kept), values, 1)
    return w[:, :columns]


def eight_rows(t, shape):
    """[out, in] from offsets, columns, values and perhaps scales."""
    w = np.zeros((-(-shape[0] // 8) * 8, shape[1]), "f4")
    run = 0
    for group, (start, end) in enumerate(zip(t["offsets"][:-1], t["offsets"][1:])):
        values, runs = t["values"][start:end].astype("f4"), -(-int(end - start) // 32)
        if "scales" in t:
            values = values * np.repeat(t["scales"][run : run + runs], 32, 0)[: len(values)]
        run += runs
        w[8 * group : 8 * group + 8, t["columns"][start:end]] = values.T
    return w[: shape[0]]


def dense(tensors, name, shape):
    """The matrix `name` of `shape` in whatever form, and the names of the tensors that hold it."""
    if name in tensors:
        return tensors[name], {name}
    below = {n[len(name) + 1 :]: t for n, t in tensors.items() if n.startswith(name + ".")}
    used = {f"{name}.{part}" for part in below}
    kinds = {part.split(".")[0] for part in below}
    if len(kinds) != 1:
        raise SystemExit(f"{name}: {sorted(kinds) or 'absent'}, expected one form")
    kind = kinds.pop()
    inner = {part.partition(".")[2]: t for part, t in below.items()}
    if kind in BLOCKS:
        return blocks(kind, below[kind]), used
    if kind == "2of4":
        return two_of_four(inner, shape[1]), used
    if kind == "rows8":
        return eight_rows(inner, shape), used
    if kind == "low_rank":
        return inner["a"] @ inner["b"], used
    if kind == "sum":
        terms = len({part.split(".")[0] for part in inner})
        return sum(dense(tensors, f"{name}.sum.{i}", shape)[0] for i in range(terms)), used
    if kind == "wrapped":
        core = dense(tensors, name + ".wrapped.core", shape)[0]
        left, right = inner["left"], inner["right"]
        core = (left @ core.reshape(*left.shape[:2], -1)).reshape(shape)
        return np.einsum("obi,bij->obj", core.reshape(shape[0], *right.shape[:2]), right).reshape(shape), used
    raise SystemExit(f"{name}: form {kind!r} is not read here")


def rotary(config, width):
    """(angular speed of each rotary pair [D/2], factor on cos and sin), in float64."""
    rope = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    base = rope.get("rope_theta") or config.get("rope_theta") or 10000.0
    kind = rope.get("rope_type") or rope.get("type") or "default"
    speed = float(base) ** (-np.arange(0, width, 2) / width)
    divisors = (config.get("pare") or {}).get("rope_divisors")
    if divisors is not None:
        return speed / np.array(divisors), 1.0
    if kind == "default":
        return speed, 1.0
    factor = float(rope["factor"])
    if kind == "linear":
        return speed / factor, 1.0
    original = "original_max_position_embeddings"
    context = config.get(original) or rope.get(original) or config["max_position_embeddings"]
    turns = context * speed / (2 * np.pi)  # full turns of each pair over the original context
    if kind == "llama3":
        slow, fast = rope["low_freq_factor"], rope["high_freq_factor"]
        kept = np.clip((turns - slow) / (fast - slow), 0, 1)
        return speed * (kept + (1 - kept) / factor), 1.0
    if kind == "yarn":
        pair = lambda n: width * math.log(context / (n * 2 * math.pi)) / (2 * math.log(base))
        low, high = pair(rope.get("beta_fast") or 32), pair(rope.get("beta_slow") or 1)
        if rope.get("truncate", True):
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, width - 1)
        kept = 1 - np.clip((np.arange(width // 2) - low) / (high - low or 0.001), 0, 1)
        grow = lambda m: 0.1 * m * math.log(factor) + 1 if factor > 1 else 1.0
        both = rope.get("mscale") and rope.get("mscale_all_dim")
        scale = grow(rope["mscale"]) / grow(rope["mscale_all_dim"]) if both else grow(1)
        scale = scale if rope.get("attention_factor") is None else rope["attention_factor"]
        return speed * (kept + (1 - kept) / factor), scale
    raise SystemExit(f"config.json: rope type {kind!r} is not read here (default, linear, llama3, yarn)")


class Model:
    """A decoder of one of the four families. T tokens, C model width, D head width, V vocabulary."""

    def __init__(self, directory, dtype):
        with open(os.path.join(directory, "config.json"), encoding="utf-8") as f:
            c = self.config = json.load(f)
        self.family = c["model_type"]
        if self.family not in ("llama", "mistral", "qwen2", "qwen3"):
            raise SystemExit(f"config.json: model_type {self.family!r} is not read here (llama, mistral, qwen2, qwen3)")
        if c.get("hidden_act", "silu") != "silu":
            raise SystemExit(f"config.json: hidden_act {c['hidden_act']!r} is not read here (silu)")
        method = (c.get("quantization_config") or {}).get("quant_method", "pare")
        if method != "pare":
            raise SystemExit(f"config.json: quantization_config {method!r} is not read here (pare)")
        self.tensors, self.dtype = read_safetensors(directory), dtype
        self.unread, self.read = set(self.tensors), {}
        heads = c["num_attention_heads"]
        self.width = c.get("head_dim") or (128 if self.family == "qwen3" else c["hidden_size"] // heads)
        uniform = {"attention": {"heads": heads, "kv_heads": c.get("num_key_value_heads") or heads},
                   "ffn": c["intermediate_size"]}
        own = c.get("pare") or {}
        self.blocks = own.get("blocks") or [uniform] * c["num_hidden_layers"]
        self.shortcuts = bool(own.get("shortcuts"))
        if len(self.blocks) != c["num_hidden_layers"]:
            raise SystemExit(f"config.json: {len(self.blocks)} pare.blocks, num_hidden_layers {c['num_hidden_layers']}")
        self.eps = c.get("rms_norm_eps", 1e-6)
        declared = bool(c.get("attention_bias"))
        self.qkv_bias = self.family == "qwen2" or declared and self.family in ("llama", "qwen3")
        self.o_bias = declared and self.family in ("llama", "qwen3")
        self.ffn_bias = bool(c.get("mlp_bias")) and self.family == "llama"

    def get(self, name, *shape):
        if name not in self.read:
            t, used = dense(self.tensors, name, shape)
            self.unread -= used
            if t.shape != shape:
                raise SystemExit(f"{name}: {list(t.shape)}, expected {list(shape)}")
            self.read[name] = t.astype(self.dtype)
        return self.read[name]

    def linear(self, x, name, rows, bias):
        y = x @ self.get(name + ".weight", rows, x.shape[-1]).T
        return y + self.get(name + ".bias", rows) if bias else y

    def shortcut(self, x, at):
        return self.linear(x, at + "shortcut", x.shape[-1], False) if self.shortcuts else x

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.get(name + ".weight", x.shape[-1])

    def attention(self, x, at, heads, groups):
        T, D = len(x), self.width
        q = self.linear(x, at + "q_proj", heads * D, self.qkv_bias).reshape(T, heads, D)
        k = self.linear(x, at + "k_proj", groups * D, self.qkv_bias).reshape(T, groups, D)
        v = self.linear(x, at + "v_proj", groups * D, self.qkv_bias).reshape(T, groups, D)
        if self.family == "qwen3":
            q, k = self.norm(q, at + "q_norm"), self.norm(k, at + "k_norm")
        speed, factor = rotary(self.config, D)
        angle = np.arange(T)[:, None, None] * speed
        cos, sin = (np.cos(angle) * factor).astype(x.dtype), (np.sin(angle) * factor).astype(x.dtype)
        turn = lambda a: np.concatenate([a[..., : D // 2] * cos - a[..., D // 2 :] * sin,
                                         a[..., D // 2 :] * cos + a[..., : D // 2] * sin], -1)
        q, k = turn(q), turn(k)
        future = np.arange(T) > np.arange(T)[:, None]
        out = np.empty_like(q)
        for h in range(heads):
            g = h // (heads // groups)
            s = np.where(future, -np.inf, q[:, h] @ k[:, g].T / x.dtype.type(math.sqrt(D)))
            p = np.exp(s - s.max(-1, keepdims=True))
            out[:, h] = p / p.sum(-1, keepdims=True) @ v[:, g]
        return self.linear(out.reshape(T, heads * D), at + "o_proj", self.config["hidden_size"], self.o_bias)

    def logits(self, ids):
        """[T, V] for token ids [T]."""
        c = self.config
        window = c.get("sliding_window", 4096 if self.family == "mistral" else None)
        if window and (self.family == "mistral" or c.get("use_sliding_window")) and len(ids) > window:
            raise SystemExit(f"{len(ids)} tokens exceed the sliding window of {window}, which is not read here")
        C, V = c["hidden_size"], c["vocab_size"]
        table = self.get("model.embed_tokens.weight", V, C)
        x = table[list(ids)]
        for i, block in enumerate(self.blocks):
            at = f"model.layers.{i}."
            if block["attention"] is not None:
                heads, groups = block["attention"]["heads"], block["attention"]["kv_heads"]
                y = self.attention(self.norm(x, at + "input_layernorm"), at + "self_attn.", heads, groups)
                x = self.shortcut(x, at + "self_attn.") + y
            if block["ffn"] is not None:
                y = self.norm(x, at + "post_attention_layernorm")
                gate = self.linear(y, at + "mlp.gate_proj", block["ffn"], self.ffn_bias)
                up = self.linear(y, at + "mlp.up_proj", block["ffn"], self.ffn_bias)
                y = self.linear(gate / 2 * (1 + np.tanh(gate / 2)) * up, at + "mlp.down_proj", C, self.ffn_bias)
                x = self.shortcut(x, at + "mlp.") + y
        head = table if c.get("tie_word_embeddings") else self.get("lm_head.weight", V, C)
        x = self.norm(x, "model.norm")
        self.unread.discard("lm_head.weight")  # a tied head may be stored as well
        if self.unread:
            raise SystemExit(f"tensors that config.json does not ask for: {sorted(self.unread)[:5]}")
        return x @ head.T


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("dir", "--ids", "--out", "--check"):
        p.add_argument(name)
    p.add_argument("--json", action="store_true")
    p.add_argument("--tolerance", type=float, default=2e-3)
    p.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    a = p.parse_args()
    if not a.ids and not a.check:
        p.error("give --ids or --check")
    model = Model(a.dir, np.dtype(a.dtype))
    if a.check:
        with open(a.check, encoding="utf-8") as f:
            prompts = json.load(f)["prompts"]
        rows = []
        for prompt in prompts:
            mine, theirs = model.logits(prompt["ids"])[-1], np.array(prompt["logits"])
            if mine.shape != theirs.shape:
                raise SystemExit(f"{a.check}: {theirs.shape} logits, expected {mine.shape}")
            rows.append({"tokens": len(prompt["ids"]), "max_abs_diff": float(np.abs(mine - theirs).max()),
                         "same_top1": bool(mine.argmax() == theirs.argmax())})
        print(json.dumps({"reader": "numpy " + np.__version__, "tolerance": a.tolerance, "prompts": rows}, indent=1))
        return int(not rows or any(not r["max_abs_diff"] <= a.tolerance for r in rows))
    logits = model.logits([int(i) for i in a.ids.split(",")])
    if a.out:
        np.save(a.out, logits)
    if a.json or not a.out:
        best = np.argsort(-logits, axis=-1, kind="stable")[:, :5]
        print(json.dumps([[[int(i), float(row[i])] for i in b] for row, b in zip(logits, best)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
