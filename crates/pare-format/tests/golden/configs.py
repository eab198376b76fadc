"""Writes configs/NAME.json with transformers, and configs.json with what transformers understands of each.

Run from this directory with transformers 5.
"""

import json
import pathlib

from transformers import AutoConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

TINY = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, vocab_size=100)
LLAMA3 = dict(rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=512)
YARN = dict(rope_type="yarn", rope_theta=1e6, factor=4.0, original_max_position_embeddings=1024)

CONFIGS = {
    "llama": LlamaConfig(**TINY),
    "llama3": LlamaConfig(**TINY, num_key_value_heads=2, rope_parameters=LLAMA3, max_position_embeddings=4096, eos_token_id=[7, 8], bos_token_id=6, dtype="bfloat16"),
    "llama_biases": LlamaConfig(**TINY, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, rms_norm_eps=1e-5, head_dim=32),
    "llama_linear": LlamaConfig(**TINY, rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=1e4)),
    "mistral": MistralConfig(**TINY, num_key_value_heads=2, max_position_embeddings=8192),
    "mistral_full": MistralConfig(**TINY, num_key_value_heads=4, sliding_window=None, head_dim=24),
    "qwen2": Qwen2Config(**TINY, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen2_windows": Qwen2Config(**TINY, num_key_value_heads=2, use_sliding_window=True, sliding_window=128, max_window_layers=1),
    "qwen3": Qwen3Config(**TINY, num_key_value_heads=1, head_dim=16, eos_token_id=9, rope_parameters=YARN),
}

OLD = {
    # The form of transformers 4: theta and scaling at the top, torch_dtype.
    "old_llama": dict(model_type="llama", **TINY, rope_theta=12345.0, rope_scaling=dict(type="linear", factor=3.0), torch_dtype="float16", max_position_embeddings=77),
    "old_qwen2": dict(model_type="qwen2", **TINY, num_key_value_heads=4, rope_theta=1000000.0, sliding_window=64, use_sliding_window=False, max_window_layers=3),
}


def understood(config):
    rope = dict(config.rope_parameters)
    types = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    windows = [window if types is None or t == "sliding_attention" else None for t in types or [None] * config.num_hidden_layers]
    eos = config.eos_token_id
    return dict(
        family=config.model_type,
        hidden=config.hidden_size,
        blocks=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        ffn=config.intermediate_size,
        vocab=config.vocab_size,
        context=config.max_position_embeddings,
        norm_eps=config.rms_norm_eps,
        theta=rope["rope_theta"],
        scaling=rope["rope_type"],
        factor=rope.get("factor"),
        tied=config.tie_word_embeddings,
        bos=config.bos_token_id,
        eos=[] if eos is None else eos if isinstance(eos, list) else [eos],
        dtype=str(config.dtype).removeprefix("torch.") if config.dtype else None,
        windows=[w if w and w < config.max_position_embeddings else None for w in windows],
    )


folder = pathlib.Path("configs")
folder.mkdir(exist_ok=True)
expected = {}
for name, config in CONFIGS.items():
    folder.joinpath(name + ".json").write_text(config.to_json_string())
    expected[name] = understood(config)
for name, entries in OLD.items():
    folder.joinpath(name + ".json").write_text(json.dumps(entries, indent=2) + "\n")
    expected[name] = understood(AutoConfig.for_model(**entries))
pathlib.Path("configs.json").write_text(json.dumps(expected, indent=1) + "\n")
