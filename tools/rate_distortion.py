"""Bytes against divergence: what pare writes as GGUF beside what llama-quantize writes, both measured by llama-perplexity.

usage: rate_distortion.py --pare PARE --tools DIR --held-out FILE --calibration FILE --work DIR [--model NAME] [--chunks N]

The reference is the model off the grid of its own quantiser (`pare export --off-grid 0 --gguf f32`): a file that was quantised
before would make every quantiser look lossless. DIR holds llama-perplexity, llama-quantize and llama-imatrix. FILEs are plain
text that share nothing; the second is only for the importance matrix. Prints a page in Markdown.
"""
import argparse, datetime, os, re, subprocess

OURS = ["q8_0", "q6_k", "q5_k_m", "q5_1", "q5_0", "q4_k_m", "q4_1", "q4_0"]
THEIRS = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_1", "Q4_0", "Q3_K_M", "Q2_K"]


def run(*command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed ({done.returncode}):\n{done.stdout[-2000:]}")
    return done.stdout


def main():
    arguments = argparse.ArgumentParser()
    for name in ("pare", "tools", "held-out", "calibration", "work"):
        arguments.add_argument(f"--{name}", required=True)
    arguments.add_argument("--model", default="smollm2-135m")
    arguments.add_argument("--chunks", type=int, default=16)
    at = arguments.parse_args()
    os.makedirs(at.work, exist_ok=True)
    tool = lambda name: os.path.join(at.tools, f"llama-{name}")
    file = lambda name: os.path.join(at.work, name)

    reference = file("reference.gguf")
    run(at.pare, "export", at.model, "--off-grid", 0, "--gguf", "f32", "-o", reference, "--force", "-q")
    base = file("base.logits")
    measure = [tool("perplexity"), "-t", 2, "-c", 512, "--chunks", at.chunks, "-f", at.held_out, "--kl-divergence-base", base]
    run(*measure, "-m", reference)
    matrix = file("imatrix.gguf")
    run(tool("imatrix"), "-t", 2, "-m", reference, "-f", at.calibration, "-c", 512, "--chunks", 32, "-o", matrix)

    rows = []

    def add(who, name, path):
        said = run(*measure, "-m", path, "--kl-divergence")
        figure = lambda label: float(re.search(label + r"\s*[:=]\s*(-?[0-9.]+)", said).group(1))
        top = float(re.search(r"Same top p\s*:\s*([0-9.]+)", said).group(1))
        rows.append((os.path.getsize(path), who, name, figure(r"Mean\s+KLD"), figure(r"99\.0%\s+KLD"), top))
        os.remove(path)

    for name in OURS:
        path = file(f"ours-{name}.gguf")
        run(at.pare, "export", at.model, "--off-grid", 0, "--gguf", name, "-o", path, "--force", "-q")
        add("pare", name, path)
    for name in THEIRS:
        path = file(f"plain-{name}.gguf")
        run(tool("quantize"), reference, path, name, 2)
        add("llama-quantize", name, path)
        path = file(f"imatrix-{name}.gguf")
        run(tool("quantize"), "--imatrix", matrix, reference, path, name, 2)
        add("llama-quantize, imatrix", name, path)

    date = datetime.datetime.now(datetime.timezone.utc).date()
    print(f"# Bytes against divergence, {date}\n")
    print(f"{at.model}, off the grid of its file (`--off-grid 0`), against itself in f32. Every row was measured by llama-perplexity")
    print(f"(context 512, {at.chunks} chunks of held-out text, of which it counts the second halves); importance matrices come from other text.")
    print("pare quantises without an importance matrix here. Made by `tools/rate_distortion.py`.\n")
    print("| MB | written by | type | mean KL, nats | KL 99 % | same top-1 |")
    print("|---|---|---|---|---|---|")
    for size, who, name, mean, tail, top in sorted(rows, reverse=True):
        print(f"| {size / 1e6:.1f} | {who} | {name} | {mean:.4f} | {tail:.3f} | {top:.1f} % |")


main()
