"""Does lm-evaluation-harness find the same log-likelihoods, answers and accuracies?

usage: peer_lm_eval.py tasks TEXT TASKS.jsonl
       peer_lm_eval.py compare DIR TASKS.jsonl FIGURES.json [--tolerance 1e-3]
       TEXT     prose, such as the encyclopedia that pare keeps in its cache
       DIR      a plain directory that transformers loads
       FIGURES  what `pare eval DIR --tasks TASKS.jsonl --held-out TEXT --weights exact --json` printed

`tasks` writes 160 tasks with choices (how a sentence of TEXT goes on, sums in words, odd texts) and 40 with exact answers. `compare` runs them as
local tasks of lm-eval 0.4.13, multiple_choice and generate_until up to the end of the line, in f32 on one thread, and prints JSON: the
largest difference of a log-likelihood, the answers that differ, and all accuracies with their standard errors. Exit 1 when a difference
is larger than the tolerance, or an answer or accuracy differs.

pip install torch transformers lm-eval==0.4.13
"""
import argparse
import json
import os
import random
import re
import sys
import tempfile

CHOICE = """task: choice
dataset_path: json
dataset_kwargs:
  data_files:
    test: "{data}"
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""
EXACT = """task: exact
dataset_path: json
dataset_kwargs:
  data_files:
    test: "{data}"
output_type: generate_until
test_split: test
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: {tokens}
  do_sample: false
filter_list:
  - name: none
    filter:
      - function: remove_whitespace
      - function: take_first
metric_list:
  - metric: exact_match
"""
NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
           "seventeen eighteen").split()
ODD = [
    ("Der Fluss fließt durch Köln und mündet in die", ["Nordsee.", "Ostsee.", "Straße.", "日本海。"], 0),
    ("東京は", ["日本の首都です。", "フランスの都市です。", "山です。"], 0),
    ("def add(a, b):\n    return", ["a + b", "a - b", "None", "b"], 0),
    ("Water boils at 100 °C;\n\nit freezes at", ["0 °C.", "50 °C.", "100 °C.", "−273.15 °C."], 0),
    ("😀 means happy, 😢 means", ["sad", "happy", "tree", "👍"], 0),
    ("1, 2, 3, 4,", ["5", "6", "7", "44"], 0),
    ("She said: \"Don't go", ["there.\"", "banana.\"", "!!!", "purple"], 0),
    ("The opposite of hot is", ["cold", "a very long answer that nobody would give to such a question", "x", "warm"], 0),
    ("A\tB\tC\tD\t1\t2\t3", ["4", "5", "E", "\\t"], 0),
    ("Paris is the capital of", ["France", "Germany", "Italy", "the United Kingdom of Great Britain"], 0),
]


def make(text, out):
    """Tasks from prose, drawn with a fixed seed."""
    draw = random.Random(0)
    with open(text, encoding="utf-8") as f:
        sentences = re.findall(r"(?<=[.!?] )[A-Z][^.!?\n]{60,200}[.!?](?=\s)", f.read(2_000_000))
    ends, rows = [], []
    for sentence in draw.sample(sorted(set(sentences)), 120):
        words = sentence.split()
        cut = len(words) // 2
        ends.append((" ".join(words[:cut]), " ".join(words[cut:])))
    for index, (prompt, end) in enumerate(ends):
        others = draw.sample([other for k, (_, other) in enumerate(ends) if k != index], 3)
        right = draw.randrange(4)
        rows.append({"prompt": prompt, "choices": others[:right] + [end] + others[right:], "answer": right})
    for _ in range(30):
        a, b = draw.randrange(1, 10), draw.randrange(1, 10)
        wrong = draw.sample([n for n in range(19) if n != a + b], 3)
        right = draw.randrange(4)
        choices = [NUMBERS[n] for n in wrong[:right] + [a + b] + wrong[right:]]
        rows.append({"prompt": f"Question: What is {NUMBERS[a]} plus {NUMBERS[b]}?\nAnswer:", "choices": choices, "answer": right})
    rows += [{"prompt": prompt, "choices": choices, "answer": right} for prompt, choices, right in ODD]
    for index in range(40):
        a, b, c = (draw.randrange(1, 20) for _ in range(3))
        if index % 2:
            rows.append({"prompt": f"{c} + 1 = {c + 1}\n{a} + {b} =", "answer": str(a + b)})
        else:
            end = a + c % 5 + 3
            rows.append({"prompt": f"Count: {', '.join(str(n) for n in range(a, end))},", "answer": str(end)})
    with open(out, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def evaluate(model, name, config):
    """The samples and results of one local task."""
    import lm_eval
    from lm_eval.tasks import TaskManager
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "task.yaml"), "w", encoding="utf-8") as f:
            f.write(config)
        manager = TaskManager(include_path=folder, include_defaults=False)
        found = lm_eval.simple_evaluate(model=model, tasks=[name], task_manager=manager, log_samples=True, bootstrap_iters=1)
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    return [sample["filtered_resps"] for sample in samples], found["results"][name]


def compare(folder, tasks, figures, tolerance):
    """Both programs on the same tasks; True when they agree."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    with open(figures, encoding="utf-8") as f:
        own = json.load(f)["tasks"]
    with open(tasks, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f if line.strip()]
    assert len(rows) == len(own["outcomes"]), f"{len(rows)} tasks, {len(own['outcomes'])} outcomes"
    model = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=1)
    found = {"peer": f"lm-eval {lm_eval.__version__}", "tolerance": tolerance}
    good, share = True, lambda flags: sum(flags) / len(flags)
    with tempfile.TemporaryDirectory() as scratch:
        data = os.path.join(scratch, "data.jsonl")

        def put(kind):
            chosen = [(row, mine) for row, mine in zip(rows, own["outcomes"]) if ("choices" in row) == (kind == "choice")]
            with open(data, "w", encoding="utf-8") as f:
                f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row, _ in chosen)
            return [mine for _, mine in chosen]

        if mine := put("choice"):
            theirs, result = evaluate(model, "choice", CHOICE.format(data=data))
            pairs = [(x, float(y[0])) for one, resps in zip(mine, theirs) for x, y in zip(one["log_likelihoods"], resps, strict=True)]
            worst = max(abs(x - y) for x, y in pairs)
            accuracies = {
                "acc": [share([one["is_right"] for one in mine]), result["acc,none"]],
                "acc_norm": [share([one["is_right_per_character"] for one in mine]), result["acc_norm,none"]],
            }
            errors = {"acc_norm": [own["accuracy_per_character"]["standard_error"], result["acc_norm_stderr,none"]]}
            good = good and worst <= tolerance and all(abs(x - y) < 1e-9 for x, y in [*accuracies.values(), *errors.values()])
            found["choices"] = {"tasks": len(mine), "log_likelihoods": len(pairs), "worst_difference": worst,
                                "largest": max(abs(x) for x, _ in pairs), "accuracies": accuracies, "standard_errors": errors}
        if mine := put("exact"):
            tokens = max(len(one["written"]) for one in mine) + 1
            theirs, result = evaluate(model, "exact", EXACT.format(data=data, tokens=tokens))
            # Both stop at the end of the line; ours also where no more could make the answer right.
            said = [resps[0] if isinstance(resps, list) else resps for resps in theirs]
            others = [[x["written"], y] for x, y in zip(mine, said, strict=True) if not y.startswith(x["written"])]
            accuracy = [share([one["is_right"] for one in mine]), result["exact_match,none"]]
            good = good and not others and abs(accuracy[0] - accuracy[1]) < 1e-9
            found["exact"] = {"tasks": len(mine), "answers_that_differ": others, "accuracy": accuracy}
    found["agrees"] = good = bool(good)
    print(json.dumps(found, indent=1, ensure_ascii=False))
    return good


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = p.add_subparsers(dest="command", required=True)
    one = commands.add_parser("tasks")
    one.add_argument("text")
    one.add_argument("out")
    two = commands.add_parser("compare")
    two.add_argument("dir")
    two.add_argument("tasks")
    two.add_argument("figures")
    two.add_argument("--tolerance", type=float, default=1e-3)
    a = p.parse_args()
    if a.command == "tasks":
        make(a.text, a.out)
        return 0
    return 0 if compare(a.dir, a.tasks, a.figures, a.tolerance) else 1


if __name__ == "__main__":
    sys.exit(main())
