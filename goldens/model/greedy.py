"""Greedy text of SmolLM2-135M-Instruct (Q4_1): 200 tokens by transformers in f32 with a key/value cache.

usage: greedy.py MODEL        MODEL: the .gguf file, or a Hugging Face directory of its dequantised weights

Writes greedy.json: prompt, its ids, the 200 ids, the text, the margin (best logit minus runner-up) of every step.

The prompt was picked, not drawn. Of 65 prompts tried, 18 keep a margin above 0.02 for 200 steps, hundreds of times the
rounding of an f32 forward pass, so that another id is a mistake and not a tie. Most of those fall into a loop, where
margins are large and little is tested; this one has the most distinct ids of those that stay prose to the end.
"""
import os
import sys

import model as reference
import torch

STEPS = 200
PROMPT = "<|im_start|>user\nWhat is a black hole?<|im_end|>\n<|im_start|>assistant\n"


def continuation(model, ids, steps):
    """(ids, margins) of greedy decoding, one token at a time; no id ends it."""
    cache, feed, out, margins = None, ids, [], []
    for _ in range(steps):
        step = model(torch.tensor([feed]), past_key_values=cache, use_cache=True)
        cache = step.past_key_values
        best = step.logits[0, -1].topk(2)
        out.append(best.indices[0].item())
        margins.append((best.values[0] - best.values[1]).item())
        feed = out[-1:]
    return out, margins


def main(path):
    model, tok, source = reference.read_model(path)
    ids = tok(PROMPT, add_special_tokens=False).input_ids
    out, margins = continuation(model, ids, STEPS)
    # The same ids in one pass without a cache: both ways of computing must choose alike.
    logits = model(torch.tensor([ids + out]), use_cache=False).logits[0, len(ids) - 1 : -1]
    if logits.argmax(-1).tolist() != out:
        raise SystemExit("the cached and the whole pass choose different ids")
    best = logits.topk(2).values
    drift = ((best[:, 0] - best[:, 1]) - torch.tensor(margins)).abs().max().item()
    record = {"source": source, "versions": reference.versions(), "prompt": PROMPT, "ids": ids, "continuation": out,
              "text": tok.decode(out), "smallest_margin": min(margins), "distinct_ids": len(set(out)),
              "margins": [round(m, 4) for m in margins]}
    with open(os.path.join(reference.HERE, "greedy.json"), "w", encoding="utf-8") as f:
        f.write(reference.dump(record))
    print(record["text"])
    print(f"smallest margin {min(margins):.4f} at step {margins.index(min(margins))}, {len(set(out))} distinct ids,",
          f"margins with and without cache differ by at most {drift:.1e}")


if __name__ == "__main__":
    main(sys.argv[1])
