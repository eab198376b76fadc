"""Tiny random models of every supported family, with the logits transformers computes from them in f32.

usage: families.py          writes FAMILY/{config.json, model.safetensors, logits.json} beside this script

Hidden 64, 2 blocks, 4 query and 2 key/value heads, vocabulary 128. Norm weights are drawn around 1 and biases around 0
with a large spread, so that a norm or a bias that is forgotten, swapped or added twice changes the logits.
logits.json: ids [12], last (logits of the last position, f32 printed so that it reads back exactly), top1 and margin of
every position, and the versions that made them.
"""
import json
import os
import shutil
import zlib

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = dict(vocab_size=128, hidden_size=64, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
# These original contexts put the rotary pairs of a 16-wide head on both sides of, and inside, the blended range.
LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, beta_fast=8.0, beta_slow=1.0,
            original_max_position_embeddings=512)
FAMILIES = {
    "llama-tied": (LlamaForCausalLM, LlamaConfig(**SIZES, rms_norm_eps=1e-3, tie_word_embeddings=True)),
    "llama-llama3-biases": (LlamaForCausalLM, LlamaConfig(
        **SIZES | dict(max_position_embeddings=256), rms_norm_eps=1e-5, attention_bias=True, mlp_bias=True,
        rope_parameters=LLAMA3)),
    "llama-yarn": (LlamaForCausalLM, LlamaConfig(**SIZES | dict(max_position_embeddings=2048), rope_parameters=YARN)),
    "llama-linear": (LlamaForCausalLM, LlamaConfig(
        **SIZES, tie_word_embeddings=True, rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0))),
    "mistral": (MistralForCausalLM, MistralConfig(
        **SIZES, head_dim=24, sliding_window=None, rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(
        **SIZES, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(
        **SIZES, head_dim=24, rope_parameters=dict(rope_type="default", rope_theta=1e6))),
}

# These keep their config.json in the keys that were used before transformers 5.
OLD_KEYS = ("llama-linear", "mistral")


def write_old_keys(path):
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    config["torch_dtype"] = config.pop("dtype")
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(config, indent=2, sort_keys=True) + "\n")


def randomise(model, rng):
    """Every parameter from `rng`, in the order of the names; wide enough that attention is far from uniform."""
    for name, p in sorted(model.named_parameters()):
        draw = torch.randn(p.shape, generator=rng)
        if name.endswith("norm.weight"):
            p.copy_(1 + 0.4 * draw)
        elif name.endswith(".bias"):
            p.copy_(0.5 * draw)
        elif "embed_tokens" in name or "lm_head" in name:
            p.copy_(0.5 * draw)
        else:
            p.copy_(draw * 1.5 / p.shape[1] ** 0.5)


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    for name, (architecture, config) in FAMILIES.items():
        rng = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        model = architecture._from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
        randomise(model, rng)
        out = os.path.join(HERE, name)
        shutil.rmtree(out, ignore_errors=True)
        model.save_pretrained(out)
        os.remove(os.path.join(out, "generation_config.json"))
        os.chmod(os.path.join(out, "model.safetensors"), 0o644)
        if name in OLD_KEYS:
            write_old_keys(os.path.join(out, "config.json"))
        # What is stored is what a reader gets, so the logits come from a second load of the files.
        again = architecture.from_pretrained(out, dtype=torch.float32, attn_implementation="eager").eval()
        ids = torch.randint(3, 128, (12,), generator=rng).tolist()
        logits = again(torch.tensor([ids]), use_cache=False).logits[0]
        best = logits.topk(2, dim=-1)
        margin = best.values[:, 0] - best.values[:, 1]
        record = {"ids": ids, "last": logits[-1].tolist(), "top1": best.indices[:, 0].tolist(),
                  "margin": margin.tolist(), "versions": {"torch": torch.__version__,
                                                          "transformers": transformers.__version__}}
        with open(os.path.join(out, "logits.json"), "w", encoding="utf-8") as f:
            f.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in record.items()) + "\n}\n")
        print(f"{name:20} smallest margin {margin.min():.4f}  spread of logits {logits.std():.3f}",
              {n: os.path.getsize(os.path.join(out, n)) for n in sorted(os.listdir(out))})


if __name__ == "__main__":
    main()
