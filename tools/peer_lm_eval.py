"""Does lm-evaluation-harness find the same log-likelihoods and the same accuracies?

usage: peer_lm_eval.py DIR TASKS.jsonl FIGURES.json [--tolerance 1e-3]
       DIR      a plain directory that transformers loads
       TASKS    the tasks, all with "choices"
       FIGURES  what `pare eval DIR --tasks TASKS.jsonl --held-out TEXT --weights exact --json` printed

Runs the tasks as a local multiple_choice task of lm-eval 0.4.13 in f32 on one thread and prints JSON: the largest difference of a
log-likelihood, and both accuracies. Exit 1 when a difference is larger than the tolerance or an accuracy differs.

pip install torch transformers lm-eval==0.4.13
"""
import argparse
import json
import os
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

TASK = """task: own
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


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("dir")
    p.add_argument("tasks")
    p.add_argument("figures")
    p.add_argument("--tolerance", type=float, default=1e-3)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    with open(a.figures, encoding="utf-8") as f:
        own = json.load(f)["tasks"]
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "own.yaml"), "w", encoding="utf-8") as f:
            f.write(TASK.format(data=os.path.abspath(a.tasks)))
        model = HFLM(pretrained=a.dir, dtype="float32", device="cpu", batch_size=1)
        manager = TaskManager(include_path=folder, include_defaults=False)
        found = lm_eval.simple_evaluate(model=model, tasks=["own"], task_manager=manager, log_samples=True,
                                        bootstrap_iters=0)
    theirs = {s["doc_id"]: [float(r[0]) for r in s["filtered_resps"]] for s in found["samples"]["own"]}
    worst = 0.0
    for index, outcome in enumerate(own["outcomes"]):
        mine = outcome["log_likelihoods"]
        assert len(mine) == len(theirs[index]), f"task {index}: {len(mine)} choices, lm-eval has {len(theirs[index])}"
        worst = max([worst] + [abs(x - y) for x, y in zip(mine, theirs[index])])
    result = found["results"]["own"]
    pairs = {"accuracy": "acc,none", "accuracy_per_character": "acc_norm,none"}
    accuracies = {name: [own[name]["mean"], result[key]] for name, key in pairs.items()}
    errors = {name: [own[name]["standard_error"], result[key.replace(",", "_stderr,")]] for name, key in pairs.items()}
    same = all(abs(x - y) < 1e-9 for x, y in accuracies.values())
    good = same and worst <= a.tolerance and len(theirs) == len(own["outcomes"])
    print(json.dumps({"peer": f"lm-eval {lm_eval.__version__}", "tasks": len(theirs), "tolerance": a.tolerance,
                      "worst_log_likelihood_difference": worst, "accuracies": accuracies, "standard_errors": errors,
                      "agrees": good}, indent=1))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
