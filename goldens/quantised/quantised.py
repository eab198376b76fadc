"""Tiny llamas as other tools quantise them, and the values of their matrices, in plain numpy from the formats' documents.

The layouts are those of AutoGPTQ and GPTQModel (qweight and qzeros, versions 1 and 2), AutoAWQ (version "gemm"), compressed-tensors
(pack-quantized, int-quantized, float-quantized) and the FP8 checkpoints of DeepSeek-V3 and Qwen3. Integers are drawn, then packed; the
expected values come from the drawn integers, not from what was packed.
For each form, a folder with config.json, model.safetensors and values.f32, the matrices in the order of PROJECTIONS in f32:
"gptq" "gptq-order" "gptq-v2" "gptq-3bit" "gptq-8bit" "awq" "packed" "packed-zeros" "int8" "float8" "float8-tensor" "fp8".
Needs numpy and ml_dtypes (0.5). Run: python quantised.py
"""

import json
from pathlib import Path

import ml_dtypes
import numpy as np

HERE = Path(__file__).parent
HIDDEN, HEADS, KEYS, WIDTH, FFN, VOCAB = 32, 2, 1, 16, 64, 128
PROJECTIONS = {
    "self_attn.q_proj": (HEADS * WIDTH, HIDDEN),
    "self_attn.k_proj": (KEYS * WIDTH, HIDDEN),
    "self_attn.v_proj": (KEYS * WIDTH, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HEADS * WIDTH),
    "mlp.gate_proj": (FFN, HIDDEN),
    "mlp.up_proj": (FFN, HIDDEN),
    "mlp.down_proj": (HIDDEN, FFN),
}
NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "int8": "I8"}
NAMES["float8_e4m3fn"] = "F8_E4M3"
random = np.random.default_rng(22)


def save(path, tensors):
    header, data = {}, b""
    for name, array in sorted(tensors.items()):
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def pack(codes, bits):
    """Along the first axis, the first code in the lowest bits of the first word, codes crossing words."""
    rows, columns = codes.shape
    words = np.zeros((-(-rows * bits // 32), columns), dtype=np.uint32)
    for i in range(rows):
        for bit in range(bits):
            at = i * bits + bit
            words[at // 32] |= ((codes[i] >> bit & 1).astype(np.uint32)) << np.uint32(at % 32)
    return words.view(np.int32)


def interleaved(codes):
    """AWQ: word w of a row holds 8 columns; its i-th 4 bits those of column 8 w + ORDER[i]."""
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    words = np.zeros((codes.shape[0], codes.shape[1] // 8), dtype=np.uint32)
    for w in range(words.shape[1]):
        for i, column in enumerate(order):
            words[:, w] |= codes[:, 8 * w + column].astype(np.uint32) << np.uint32(4 * i)
    return words.view(np.int32)


def scales(shape, dtype=np.float16):
    return (random.uniform(0.5, 2.0, shape) * 2.0 ** -random.integers(6, 10, shape)).astype(dtype)


def gptq(out, inn, bits, group, version, order=False, symmetric=False):
    groups = inn // group
    codes = random.integers(0, 1 << bits, (out, inn))
    zeros = random.integers(1, (1 << bits) - 1, (out, groups))
    if symmetric or bits == 8:
        zeros[:] = 1 << (bits - 1)
    scale = scales((out, groups))
    index = np.arange(inn) // group
    if order:
        index = random.permutation(index)
    value = (codes - zeros[:, index]).astype(np.float32) * scale.astype(np.float32)[:, index]
    stored = zeros - (1 if version == 1 else 0)
    parts = {
        "qweight": pack(codes.T, bits),
        "qzeros": pack(stored, bits).T,
        "scales": scale.T,
        "g_idx": index.astype(np.int32),
    }
    return value, parts


def awq(out, inn, group):
    groups = inn // group
    codes, zeros = random.integers(0, 16, (out, inn)), random.integers(0, 16, (out, groups))
    scale = scales((out, groups))
    index = np.arange(inn) // group
    value = (codes - zeros[:, index]).astype(np.float32) * scale.astype(np.float32)[:, index]
    return value, {"qweight": interleaved(codes.T), "qzeros": interleaved(zeros.T), "scales": scale.T}


def packed(out, inn, bits, group, zeros):
    groups = inn // group
    half = 1 << (bits - 1)
    codes = random.integers(-half, half, (out, inn))
    zero = random.integers(-half, half, (out, groups)) if zeros else np.zeros((out, groups), dtype=np.int64)
    scale = scales((out, groups), ml_dtypes.bfloat16)
    index = np.arange(inn) // group
    value = (codes - zero[:, index]).astype(np.float32) * scale.astype(np.float32)[:, index]
    parts = {
        "weight_packed": pack((codes + half).T, bits).T,
        "weight_scale": scale,
        "weight_shape": np.array([out, inn], dtype=np.int64),
    }
    if zeros:
        parts["weight_zero_point"] = pack(zero + half, bits)
    return value, parts


def int8(out, inn):
    codes, scale = random.integers(-127, 128, (out, inn)).astype(np.int8), scales((out, 1), ml_dtypes.bfloat16)
    return codes.astype(np.float32) * scale.astype(np.float32), {"weight": codes, "weight_scale": scale}


def float8(out, inn, shape, block, name="weight_scale"):
    codes = random.normal(0, 20, (out, inn)).astype(np.float32).astype(ml_dtypes.float8_e4m3fn)
    scale = random.uniform(1e-4, 1e-3, shape).astype(np.float32)
    whole = np.broadcast_to(scale, shape) if block is None else np.repeat(np.repeat(scale, block[0], 0), block[1], 1)
    whole = np.broadcast_to(whole, (out, inn)) if block is None else whole[:out, :inn]
    return codes.astype(np.float32) * whole, {"weight": codes, name: scale}


def group(weights, activations=None):
    return {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": activations}}


def compressed(format, weights, activations=None):
    return {"quant_method": "compressed-tensors", "format": format, "config_groups": group(weights, activations), "ignore": ["lm_head"]}


def of_gptq(bits, group, **more):
    return {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": False, "sym": False, **more}


BLOCK = (24, 20)  # divides no side
FORMS = {
    "gptq": (of_gptq(4, 32, sym=True), lambda o, i: gptq(o, i, 4, 32, 1, symmetric=True)),
    "gptq-order": (of_gptq(4, 16, desc_act=True), lambda o, i: gptq(o, i, 4, 16, 1, order=True)),
    "gptq-v2": (of_gptq(4, 32, checkpoint_format="gptq_v2"), lambda o, i: gptq(o, i, 4, 32, 2)),
    "gptq-3bit": (of_gptq(3, -1), lambda o, i: gptq(o, i, 3, i, 1)),
    "gptq-8bit": (of_gptq(8, 32), lambda o, i: gptq(o, i, 8, 32, 1)),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}, lambda o, i: awq(o, i, 32)),
    "packed": (
        compressed("pack-quantized", {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}),
        lambda o, i: packed(o, i, 4, 32, False),
    ),
    "packed-zeros": (
        compressed("pack-quantized", {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group", "group_size": 16}),
        lambda o, i: packed(o, i, 4, 16, True),
    ),
    "int8": (
        compressed("int-quantized", {"num_bits": 8, "type": "int", "strategy": "channel"}, {"num_bits": 8, "type": "int", "dynamic": True}),
        lambda o, i: int8(o, i),
    ),
    "float8": (
        compressed("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}, {"num_bits": 8, "type": "float"}),
        lambda o, i: float8(o, i, (o, 1), None),
    ),
    "float8-tensor": (
        compressed("float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"}, {"num_bits": 8, "type": "float"}),
        lambda o, i: float8(o, i, (1,), None),
    ),
    "fp8": (
        {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": list(BLOCK)},
        lambda o, i: float8(o, i, (-(-o // BLOCK[0]), -(-i // BLOCK[1])), BLOCK, "weight_scale_inv"),
    ),
}

for form, (config, make) in FORMS.items():
    (HERE / form).mkdir(exist_ok=True)
    whole = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEYS,
        "head_dim": WIDTH,
        "vocab_size": VOCAB,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "quantization_config": config,
    }
    (HERE / form / "config.json").write_text(json.dumps(whole, indent=1) + "\n")
    norm = np.ones(HIDDEN, dtype=np.float16)
    tensors = {"model.embed_tokens.weight": random.normal(0, 1, (VOCAB, HIDDEN)).astype(np.float16), "model.norm.weight": norm}
    block = "model.layers.0."
    tensors |= {block + "input_layernorm.weight": norm, block + "post_attention_layernorm.weight": norm}
    values = []
    for name, (out, inn) in PROJECTIONS.items():
        value, parts = make(out, inn)
        values.append(value.astype("<f4").tobytes())
        tensors |= {f"{block}{name}.{part}": array for part, array in parts.items()}
        if form == "gptq-order":  # as AutoGPTQ writes them for matrices without a bias
            tensors[f"{block}{name}.bias"] = np.zeros(out, dtype=np.float16)
        if form == "float8-tensor":
            tensors[f"{block}{name}.input_scale"] = np.ones(1, dtype=np.float32)
    save(HERE / form / "model.safetensors", tensors)
    (HERE / form / "values.f32").write_bytes(b"".join(values))
