"""Does what was written load in transformers, and are the logits the same?

usage: peer_transformers.py DIR FILE [--tolerance 2e-3]
       FILE: {"prompts": [{"ids": [...], "logits": [...]}]}, logits of the last position, from the model that wrote DIR

Loads DIR with AutoModelForCausalLM in f32, without remote code, and prints JSON: per prompt the largest difference and
whether the best id is the same; names of tensors that were missing or left over. Exit 1 when a difference is larger
than the tolerance, a tensor is missing or left over, or the directory does not load. A missing tensor must be looked
for: transformers fills it with random numbers and goes on.
"""
import argparse
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers
from transformers import AutoModelForCausalLM


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("dir")
    p.add_argument("file")
    p.add_argument("--tolerance", type=float, default=2e-3)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    report = {"peer": "transformers", "versions": versions, "tolerance": a.tolerance}
    with open(a.file, encoding="utf-8") as f:
        prompts = json.load(f)["prompts"]
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            a.dir, dtype=torch.float32, trust_remote_code=False, output_loading_info=True)
    except Exception as error:  # whatever the reason, the answer is "does not load" and why
        print(json.dumps(report | {"error": f"{type(error).__name__}: {error}"}, indent=1))
        return 1
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    off = {k: sorted(map(str, loading[k])) for k in kinds if loading[k]}
    rows = []
    for prompt in prompts:
        mine = model.eval()(torch.tensor([prompt["ids"]]), use_cache=False).logits[0, -1]
        theirs = torch.tensor(prompt["logits"], dtype=torch.float32)
        if mine.shape != theirs.shape:
            off["vocabulary"] = [f"{theirs.numel()} logits in {a.file}, {mine.numel()} from {a.dir}"]
            break
        rows.append({"tokens": len(prompt["ids"]), "max_abs_diff": (mine - theirs).abs().max().item(),
                     "same_top1": bool(mine.argmax() == theirs.argmax())})
    good = bool(rows) and not off and all(r["max_abs_diff"] <= a.tolerance for r in rows)
    report |= {"model": type(model).__name__, "prompts": rows, "problems": off, "agrees": good}
    print(json.dumps(report, indent=1))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
