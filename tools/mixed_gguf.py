"""Files of mixed block types by pare beside what llama-quantize makes with an importance matrix, both measured by llama-perplexity.

usage: mixed_gguf.py --pare PARE --tools DIR --held-out FILE --calibration FILE --work DIR [--model NAME] [--chunks N] [--windows N]
       [--ours FILE.gguf ...] [--peer-rows FILE]

The reference is the model off the grid of its own quantiser (`pare export --off-grid 0 --gguf f32`): a file that was quantised
before would make every quantiser look lossless. DIR holds llama-perplexity, llama-quantize and llama-imatrix. Both sides see the same
calibration text, and neither the held-out text. `--ours` measures files that were made before; without it they are made here.
`--peer-rows` keeps the peer's rows as JSON lines, so that a run that was stopped goes on. Prints a page in Markdown.
"""
import argparse, datetime, json, os, re, shlex, subprocess

SIZES = ["91MB", "105MB"]
TYPES = ["IQ4_XS", "Q4_0", "IQ4_NL", "Q3_K_M", "Q4_K_S", "Q4_1", "Q4_K_M"]
# Two that a user gets who also tells llama-quantize the type of the embedding.
TOLD = [("Q4_K_S", "q5_0"), ("Q5_K_S", "q5_1")]


def run(*command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{os.path.basename(str(command[0]))} failed ({done.returncode}):\n{done.stdout[-2000:]}")
    return done.stdout


def main():
    arguments = argparse.ArgumentParser()
    for name in ("pare", "tools", "held-out", "calibration", "work"):
        arguments.add_argument(f"--{name}", required=True)
    arguments.add_argument("--model", default="smollm2-135m")
    arguments.add_argument("--chunks", type=int, default=8)
    arguments.add_argument("--windows", type=int, default=32)
    arguments.add_argument("--imatrix-chunks", type=int, default=128)
    arguments.add_argument("--ours", nargs="*", default=[])
    arguments.add_argument("--peer-rows")
    at = arguments.parse_args()
    os.makedirs(at.work, exist_ok=True)
    tool = lambda name: os.path.join(at.tools, f"llama-{name}")
    file = lambda name: os.path.join(at.work, name)

    reference, base, matrix = file("reference.gguf"), file("base.logits"), file("imatrix.gguf")
    if not os.path.exists(reference):
        run(at.pare, "export", at.model, "--off-grid", 0, "--gguf", "f32", "-o", reference, "-q")
    measure = [tool("perplexity"), "-t", 2, "-c", 512, "--chunks", at.chunks, "-f", at.held_out, "--kl-divergence-base", base]
    if not os.path.exists(base):
        run(*measure, "-m", reference)
    if not os.path.exists(matrix):
        run(tool("imatrix"), "-t", 2, "-m", reference, "-f", at.calibration, "-c", 512, "--chunks", at.imatrix_chunks, "-o", matrix)

    rows = []
    if at.peer_rows and os.path.exists(at.peer_rows):
        rows = [json.loads(line) for line in open(at.peer_rows)]

    def add(who, name, path):
        said = run(*measure, "-m", path, "--kl-divergence")
        figure = lambda label: float(re.search(label + r"\s*[:=]\s*(-?[0-9.]+)", said).group(1))
        top = float(re.search(r"Same top p\s*:\s*([0-9.]+)", said).group(1))
        row = [os.path.getsize(path), who, name, figure(r"Mean\s+KLD"), figure(r"99\.0%\s+KLD"), top]
        rows.append(row)
        if at.peer_rows and who != "pare":
            with open(at.peer_rows, "a") as out:
                out.write(json.dumps(row) + "\n")
        return row

    for name, embedding in [(name, None) for name in TYPES] + TOLD:
        label = name if embedding is None else f"{name}, embedding {embedding}"
        if any(row[2] == label for row in rows):
            continue
        path = file("peer.gguf")
        told = [] if embedding is None else ["--token-embedding-type", embedding]
        run(tool("quantize"), "--imatrix", matrix, *told, reference, path, name, 2)
        add("llama-quantize, imatrix", label, path)
        os.remove(path)
    ours = at.ours
    if not ours:
        for size in SIZES:
            path = file(f"mixed-{size}.gguf")
            mixed = [at.pare, "export", at.model, "--off-grid", 0, "--gguf", "mixed", "--bytes", size, "--text", at.calibration,
                     "--calibration-windows", at.windows, "-q"]
            run(*mixed, "-o", path, "--force", "--no-verify")
            ours.append(path)
            # The same types, with the values that llama-quantize gives them: what is left of the gain is the values.
            label = f"pare's types for {size}"
            if not any(row[2] == label for row in rows):
                types, path = shlex.split(run(*mixed, "--print-plan")), file("peer.gguf")
                run(tool("quantize"), "--imatrix", matrix, *types, reference, path, "Q4_0", 2)
                add("llama-quantize, imatrix", label, path)
                os.remove(path)
    mixed = [add("pare", "mixed", path) for path in ours]

    plain = [row for row in rows if row[1] != "pare" and "embedding" not in row[2] and "pare's" not in row[2]]
    date = datetime.datetime.now(datetime.timezone.utc).date()
    print(f"# Mixed block types, {date}\n")
    print(f"{at.model}, off the grid of its file (`--off-grid 0`), against itself in f32. Every row was measured by llama-perplexity")
    print(f"(context 512, {at.chunks} chunks of held-out text, of which it counts the second halves). Both sides calibrate on the same other text:")
    print(f"pare on {at.windows} windows of 512 tokens, llama-imatrix on {at.imatrix_chunks}. Made by `tools/mixed_gguf.py`.\n")
    print("| MB | written by | type | mean KL, nats | KL 99 % | same top-1 |")
    print("|---|---|---|---|---|---|")
    for size, who, name, mean, tail, top in sorted(rows, reverse=True):
        print(f"| {size / 1e6:.1f} | {who} | {name} | {mean:.4f} | {tail:.3f} | {top:.1f} % |")
    print("\nAgainst the best plain type of llama-quantize that is no larger (half a megabyte more is let pass):\n")
    print("| pare, MB | mean KL | best peer | MB | mean KL | ratio |")
    print("|---|---|---|---|---|---|")
    for size, _, _, mean, _, _ in mixed:
        rivals = [row for row in plain if row[0] <= size + 500_000]
        if rivals:
            best = min(rivals, key=lambda row: row[3])
            print(f"| {size / 1e6:.2f} | {mean:.4f} | {best[2]} | {best[0] / 1e6:.2f} | {best[3]:.4f} | {mean / best[3]:.2f} |")
    print("\nThe rows whose embedding has a type of its own are what a user gets who tells llama-quantize so; they are no plain types.")


main()
