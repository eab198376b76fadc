"""Reference activations of SmolLM2-135M-Instruct (Q4_1), computed by transformers in f32.

usage: model.py MODEL [--check]        MODEL: the .gguf file, or a Hugging Face directory of its dequantised weights

Writes smollm2.json (prompts, ids, versions) and smollm2.safetensors beside this script. Per prompt NAME with T tokens:
  NAME.logits  f32 [49152]    logits of the last position
  NAME.hidden  f32 [31, 576]  residual stream at the last position: after the embedding, after each of the 30 blocks;
                              the last row is taken before the final norm
  NAME.top1    i32 [T]        most likely next id at every position
  NAME.margin  f32 [T]        its logit minus the runner-up's: a small margin means that another id is no mistake
--check computes the same again and compares with the files, writing nothing.
"""
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPTS = {
    "english": "Water boils at a lower temperature on a high mountain, because the pressure of the air is lower there",
    "chat": "<|im_start|>user\nWhich planet is the largest in the solar system?<|im_end|>\n<|im_start|>assistant\n",
    "code": "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return",
    "unicode": "In 1969: 3.14159 × 2 = 6.28318, café, Straße, 東京 42",
    "single": "Once",
}


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def read_gguf(path):
    """A llama GGUF as a transformers model: tensors dequantised to f32, q and k back in half-split rotary order."""
    reader = gguf.GGUFReader(path)
    field = {k: v.contents() for k, v in reader.fields.items() if k.startswith("llama.")}
    heads, kv_heads = field["llama.attention.head_count"], field["llama.attention.head_count_kv"]
    names = {t.name for t in reader.tensors}
    config = LlamaConfig(
        vocab_size=field["llama.vocab_size"], hidden_size=field["llama.embedding_length"],
        intermediate_size=field["llama.feed_forward_length"], num_hidden_layers=field["llama.block_count"],
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=field["llama.context_length"],
        rms_norm_eps=float(field["llama.attention.layer_norm_rms_epsilon"]),
        rope_parameters={"rope_type": "default", "rope_theta": float(field["llama.rope.freq_base"])},
        tie_word_embeddings="output.weight" not in names, attn_implementation="eager",
    )
    part = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
            "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    top = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    state = {}
    for t in reader.tensors:
        w = gguf.dequantize(t.data, t.tensor_type).astype(np.float32)
        stem = t.name.removesuffix(".weight")
        if stem.startswith("blk."):
            _, block, stem = stem.split(".")
            if stem in ("attn_q", "attn_k"):
                n = heads if stem == "attn_q" else kv_heads
                # GGUF keeps rotary pairs side by side (2i, 2i+1); transformers keeps them half a head apart (i, i+D/2).
                w = w.reshape(n, -1, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
            name = f"model.layers.{block}.{part[stem]}"
        else:
            name = top[stem]
        state[name + ".weight"] = torch.from_numpy(np.ascontiguousarray(w))
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model


def read_tokenizer(path):
    if os.path.isdir(path):
        return AutoTokenizer.from_pretrained(path)
    tok = AutoTokenizer.from_pretrained(os.path.dirname(os.path.abspath(path)), gguf_file=os.path.basename(path))
    if gguf.GGUFReader(path).fields["tokenizer.ggml.pre"].contents() == "smollm":
        # transformers drops this rule when it rebuilds a tokenizer from GGUF: SmolLM splits off single digits first.
        from tokenizers import pre_tokenizers as pre
        tok.backend_tokenizer.pre_tokenizer = pre.Sequence(
            [pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False, use_regex=True)])
    return tok


def read_model(path):
    """(model in f32 with plain attention, tokenizer, where the weights came from)."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    if os.path.isdir(path):
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
        source = "model.safetensors"
        path_of_bytes = os.path.join(path, source)
    else:
        model, path_of_bytes, source = read_gguf(path), path, os.path.basename(path)
    return model.eval(), read_tokenizer(path), {"file": source, "sha256": sha256(path_of_bytes)}


def dump(record):
    """JSON with one line per list of numbers."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    return re.sub(r"\[[-\d\s.,e+]*\]", lambda m: " ".join(m[0].split()), text) + "\n"


def versions():
    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
            "numpy": np.__version__, "gguf": importlib.metadata.version("gguf")}


def observe(model, ids):
    """One forward pass over `ids` with hooks on the embedding and on every block."""
    rows = []
    keep = lambda _module, _args, out: rows.append((out[0] if isinstance(out, tuple) else out)[0, -1].clone())
    hooks = [m.register_forward_hook(keep) for m in [model.model.embed_tokens, *model.model.layers]]
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    for h in hooks:
        h.remove()
    best = logits.topk(2, dim=-1)
    return {"logits": logits[-1].clone(), "hidden": torch.stack(rows), "top1": best.indices[:, 0].int(),
            "margin": best.values[:, 0] - best.values[:, 1]}


def main(path, check):
    model, tok, source = read_model(path)
    record = {"source": source, "versions": versions(), "prompts": {}}
    tensors = {}
    for name, text in PROMPTS.items():
        ids = tok(text, add_special_tokens=False).input_ids
        seen = observe(model, ids)
        tensors |= {f"{name}.{k}": v.contiguous() for k, v in seen.items()}
        record["prompts"][name] = {"text": text, "ids": ids, "smallest_margin": round(seen["margin"].min().item(), 5)}
        print(name, len(ids), "tokens, smallest margin", record["prompts"][name]["smallest_margin"],
              "next", repr(tok.decode(seen["top1"][-1:])))
    where = os.path.join(HERE, "smollm2")
    if not check:
        save_file(tensors, where + ".safetensors")
        with open(where + ".json", "w", encoding="utf-8") as f:
            f.write(dump(record))
        return 0
    with open(where + ".json", encoding="utf-8") as f:
        kept = json.load(f)["prompts"]
    stored = load_file(where + ".safetensors")
    assert stored.keys() == tensors.keys()
    assert all(kept[n]["ids"] == p["ids"] for n, p in record["prompts"].items()), "a prompt was cut differently"
    worst = {k: (tensors[k].double() - v.double()).abs().max().item() for k, v in stored.items()}
    for k, v in worst.items():
        print(f"{k:16} largest difference {v:.2e}")
    return int(any(v > 1e-3 for v in worst.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], "--check" in sys.argv[2:]))
