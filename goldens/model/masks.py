"""50 % masks of four projections of SmolLM2-135M-Instruct (Q4_1): magnitude and Wanda, in numpy.

usage: masks.py MODEL        MODEL: the .gguf file, or a Hugging Face directory of its dequantised weights

Projections: q and down of blocks 0 and 15 (key: BLOCK.NAME). A mask bit is 1 where the weight stays; bits are packed by
numpy.packbits over the row-major matrix [out, in], first weight in the highest bit of the first byte.
  magnitude   over the whole matrix: the half with the smallest |w| goes
  wanda       inside every output row: the half with the smallest |w| * sqrt(mean over tokens of x_j^2) goes
Of equal scores the one at the smaller index goes first (a stable ascending sort). Scores are f64 of f32 weights.
x is the input of the projection in the dense model over the tokens of the prompts of smollm2.json, each prompt on its
own; the mean is over all their tokens, summed in f64 and rounded to f32. The Wanda masks follow from these stored f32
means, so that they can be redone bit for bit.

masks.json        per key: shape, sha256 of both packed masks; magnitude: how many weights share the size at the cut,
                  where the tie rule decides; wanda: how many rows have less than 1e-4 of a score between kept and
                  removed, where other means may choose otherwise; the fraction of weights on which both masks agree
masks.safetensors BLOCK.NAME.wanda        u8 [64 * in / 8]  packed Wanda mask of the first 64 rows
                  BLOCK.NAME.mean_square  f32 [in]          mean of x_j^2
"""
import hashlib
import json
import os
import sys

import model as reference
import numpy as np
import torch
from safetensors.numpy import save_file

SITES = [(b, n) for b in (0, 15) for n in ("q", "down")]


def projection(model, block, name):
    layer = model.model.layers[block]
    return layer.self_attn.q_proj if name == "q" else layer.mlp.down_proj


def keep_upper_half(scores):
    """1 for the scores [rows, n] that stay: in each row all but the n // 2 smallest."""
    order = np.argsort(scores, axis=1, kind="stable")
    keep = np.ones(scores.shape, np.uint8)
    np.put_along_axis(keep, order[:, : scores.shape[1] // 2], 0, axis=1)
    return keep


def mean_squares(model, prompts):
    sums, tokens, hooks = {}, sum(len(ids) for ids in prompts), []
    for site in SITES:
        def add(_module, args, site=site):
            sums[site] = sums.get(site, 0) + (args[0][0].double().numpy() ** 2).sum(0)
        hooks.append(projection(model, *site).register_forward_pre_hook(add))
    for ids in prompts:
        model(torch.tensor([ids]), use_cache=False)
    for h in hooks:
        h.remove()
    return {site: (s / tokens).astype(np.float32) for site, s in sums.items()}, tokens


def main(path):
    model, _, source = reference.read_model(path)
    with open(os.path.join(reference.HERE, "smollm2.json"), encoding="utf-8") as f:
        prompts = [p["ids"] for p in json.load(f)["prompts"].values()]
    squares, tokens = mean_squares(model, prompts)
    record = {"source": source, "versions": reference.versions(), "tokens": tokens, "sites": {}}
    tensors = {}
    for (block, name), square in squares.items():
        w = np.abs(projection(model, block, name).weight.numpy().astype(np.float64))
        magnitude = keep_upper_half(w.reshape(1, -1)).reshape(w.shape)
        scores = w * np.sqrt(square.astype(np.float64))
        wanda = keep_upper_half(scores)
        ordered = np.sort(scores, axis=1)
        below, above = ordered[:, w.shape[1] // 2 - 1], ordered[:, w.shape[1] // 2]
        key = f"{block}.{name}"
        digest = lambda mask: hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
        flat = np.sort(w, axis=None)
        cut = flat[w.size // 2]
        record["sites"][key] = {
            "shape": list(w.shape), "magnitude_sha256": digest(magnitude), "magnitude_kept": int(magnitude.sum()),
            "magnitude_ties_at_cut": int((w == cut).sum()) if flat[w.size // 2 - 1] == cut else 0,
            "wanda_sha256": digest(wanda), "wanda_near_rows": int(((above - below) < 1e-4 * above).sum()),
            "masks_agree": float((magnitude == wanda).mean())}
        tensors[key + ".wanda"] = np.packbits(wanda[:64])
        tensors[key + ".mean_square"] = square
        print(key, record["sites"][key])
    where = os.path.join(reference.HERE, "masks")
    save_file(tensors, where + ".safetensors")
    os.chmod(where + ".safetensors", 0o644)
    with open(where + ".json", "w", encoding="utf-8") as f:
        f.write(reference.dump(record))


if __name__ == "__main__":
    main(sys.argv[1])
