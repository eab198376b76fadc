"""pare beside textbook one-shot pruning in PyTorch: the same model, calibration windows and held-out windows, in one run.

usage: peer_pruning.py --pare PARE --calibration FILE --held-out FILE --work DIR [--model NAME] [--windows 128] [--only NAME,...]

Runs with a Python that has torch, transformers and safetensors. For each method both programs prune the same float32 weights, one
after the other; both results are measured by `pare eval --weights f32` on the same windows. Prints a page in Markdown.
"""
import argparse, datetime, json, os, re, resource, shutil, subprocess, sys, time

# name, arguments of textbook_pruning.py, arguments of pare shrink, whether masks are compared
CASES = [
    ("magnitude 50 %", ["magnitude"], ["--recipe", "magnitude", "--keep", "0.5"], False),
    ("wanda 50 %", ["wanda"], ["--recipe", "wanda", "--keep", "0.5"], True),
    ("wanda 2:4", ["wanda", "--nm", "2:4"], ["--recipe", "wanda-2of4"], True),
    ("sparsegpt 50 %", ["sparsegpt"], ["--recipe", "sparsegpt", "--keep", "0.5"], False),
    ("sparsegpt 2:4", ["sparsegpt", "--nm", "2:4"], ["--recipe", "sparsegpt-2of4"], False),
    ("blocks by cosine, 8 of 30", ["depth", "--drop", "0.26667"], ["--recipe", "shortgpt", "--keep", "0.73333"], False),
]


def run(*command, memory=False):
    """Standard output, seconds and peak resident megabytes of a child."""
    start = time.time()
    child = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = 0
    while memory and child.poll() is None:
        try:
            status = open(f"/proc/{child.pid}/status").read()
            peak = max(peak, int(re.search(r"RssAnon:\s+(\d+)", status).group(1)) // 1024)
        except (OSError, AttributeError):
            pass
        time.sleep(0.05)
    out, err = child.communicate()
    if child.returncode:
        raise SystemExit(f"{command} failed ({child.returncode}):\n{err[-2000:]}")
    return out, time.time() - start, peak


def masks_agree(ours, theirs):
    """Share of projection weights that are zero in both or in neither."""
    import glob
    from safetensors import safe_open
    def tensors(folder):
        for path in glob.glob(os.path.join(folder, "*.safetensors")):
            with safe_open(path, "pt") as file:
                for name in file.keys():
                    if "proj.weight" in name:
                        yield name, file.get_tensor(name)
    other = dict(tensors(theirs))
    same = total = 0
    for name, tensor in tensors(ours):
        same += ((tensor == 0) == (other[name] == 0)).sum().item()
        total += tensor.numel()
    return same / total


def main():
    arguments = argparse.ArgumentParser()
    for name in ("pare", "calibration", "held-out", "work"):
        arguments.add_argument(f"--{name}", required=True)
    arguments.add_argument("--model", default="smollm2-135m")
    arguments.add_argument("--windows", type=int, default=128)
    arguments.add_argument("--only", default="")
    at = arguments.parse_args()
    os.makedirs(at.work, exist_ok=True)
    dense, ours, theirs = (os.path.join(at.work, name) for name in ("dense", "ours", "theirs"))
    text = ["--text", at.calibration, "--calibration-windows", at.windows]
    shrink = lambda *rest: run(at.pare, "shrink", at.model, *rest, "--dtype", "f32", "--no-verify", "--force", "-q", memory=True)
    shrink("--recipe", "magnitude", "--keep", "1.0", *text, "-o", dense)

    def perplexity(folder):
        said = run(at.pare, "eval", folder, "--held-out", at.held_out, "--windows", 32, "--probes", 0, "--no-speed",
                   "--weights", "f32", "--json", "-q")[0]
        return json.loads(said)["perplexity"]

    whole = perplexity(dense)
    book = os.path.join(os.path.dirname(os.path.abspath(__file__)), "textbook_pruning.py")
    rows = []
    for name, textbook, recipe, masks in CASES:
        if at.only and not any(word in name for word in at.only.split(",")):
            continue
        shutil.rmtree(theirs, ignore_errors=True)
        said = run(sys.executable, book, dense, at.calibration, at.held_out, *textbook, "--nseq", at.windows, "--chunks", 32,
                   "--save", theirs)[0]
        peer = json.loads(said.strip().splitlines()[-1])
        _, seconds, peak = shrink(*recipe, *text, "-o", ours)
        own, other = perplexity(ours), perplexity(theirs)
        agree = masks_agree(ours, theirs) if masks else None
        rows.append((name, own, other, peer["perplexity"], agree, seconds, peer["seconds"], peak, peer["peak_mb"]))
        print(rows[-1], file=sys.stderr, flush=True)

    print(f"# One-shot pruning beside textbook PyTorch, {datetime.date.today()}\n")
    print(f"{at.model} in float32 (perplexity {whole:.2f}), {at.windows} calibration windows of 512 tokens, 32 held-out windows of 512, both spread evenly")
    print("over their texts; two threads each, one program after the other. Both results measured by `pare eval --weights f32`; in brackets the")
    print("perplexity that PyTorch gives for its own. Seconds: pare's whole command, reading, observing, cutting and writing; PyTorch's pruning alone.")
    print("Memory: anonymous resident memory of pare, peak resident memory of PyTorch. Made by `tools/peer_pruning.py`.\n")
    print("| method | perplexity, pare | PyTorch | difference | masks agree | seconds, pare | PyTorch | ratio | MB, pare | PyTorch |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, own, other, said, agree, seconds, peer, peak, peak_peer in rows:
        share = f"{100 * agree:.2f} %" if agree is not None else ""
        print(f"| {name} | {own:.2f} | {other:.2f} ({said:.2f}) | {100 * (own / other - 1):+.2f} % | {share} | {seconds:.0f} | {peer:.0f} "
              f"| {seconds / peer:.2f} | {peak} | {peak_peer} |")


main()
