"""Renders chat templates in transformers and compares with what pare renders. Run by `cargo xtask peers templates`.

usage: peer_templates.py RENDER FOLDER: RENDER is the example program `render` of pare-format, FOLDER holds the templates (*.jinja).
Prints one JSON object: versions, whether all agree, and one entry for each template that does not.
"""
import datetime
import json
import pathlib
import subprocess
import sys

import jinja2
import transformers
from transformers.utils import chat_template_utils


class Day(datetime.datetime):
    """The day that the other side renders, at midnight."""

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 3, 9)


chat_template_utils.datetime = Day
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of <a place> & a 'day'.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "Where: \"city\", é or 中文"},
                    "days": {"type": "integer", "enum": [1, 2, 3], "default": 1},
                    "units": {"type": ["string", "null"]},
                },
                "required": ["place"],
            },
        },
    }
]
USER = {"role": "user", "content": " What is 2 < 3? \"Say\" it's so.\n"}
SYSTEM = {"role": "system", "content": "Be brief.\nBe kind: <é>. "}
ANSWER = {"role": "assistant", "content": "<think>\nIt is.\n</think>\n\nYes, it is. "}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "Zürich", "days": 2, "warm": True, "x": None, "f": 1.5}}}
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call00001", "name": "get_weather", "content": "{\"sun\": 1.0}"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}
BATTERY = {
    "user": [USER],
    "system": [SYSTEM, USER],
    "turns": [USER, ANSWER, {"role": "user", "content": "And 3?"}],
    "system and turns": [SYSTEM, USER, ANSWER, {"role": "user", "content": "And 3?"}],
    "ends with the assistant": [SYSTEM, USER, ANSWER],
    "reasoning": [USER, {"role": "assistant", "content": "Yes.", "reasoning_content": "Let me see."}, USER],
    "call": [SYSTEM, USER, CALL, RESULT],
    "call and answer": [USER, CALL, RESULT, ANSWER, USER],
    "parts": [SYSTEM, PARTS],
    "two of the user": [USER, USER],
    "unknown role": [{"role": "robot", "content": "x"}, USER],
    "developer": [{"role": "developer", "content": "Be brief."}, USER],
}


def variables(messages, tools, prompt, extra):
    given = {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": prompt}
    return {**given, "bos_token": "<s>", "eos_token": "</s>", **extra}


def expected(template, given):
    try:
        return {"text": template.render(**given)}
    except Exception as error:  # noqa: BLE001: whatever a template raises
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    render, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    asked, wanted = [], []
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        try:
            template = chat_template_utils._compile_jinja_template(source)
        except jinja2.TemplateError as error:
            template = None
            print(f"{path.name}: {error}", file=sys.stderr)
        for name, messages in BATTERY.items():
            for tools in (None, TOOLS):
                for prompt, extra in ((True, {}), (False, {}), (True, {"enable_thinking": False}), (True, {"enable_thinking": True})):
                    given = variables(messages, tools, prompt, extra)
                    asked.append(json.dumps({"source": source, "variables": given}, ensure_ascii=False))
                    case = f"{name}, {'tools' if tools else 'no tools'}, {'prompt' if prompt else 'no prompt'}, {extra}"
                    wanted.append((path.name, case, {"error": "syntax"} if template is None else expected(template, given)))
    done = subprocess.run([render], input="\n".join(asked) + "\n", capture_output=True, text=True, check=True, encoding="utf-8")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(wanted), (len(found), len(wanted))
    templates, cases, raised, lenient, differing = set(), 0, 0, 0, {}
    for (name, case, want), have in zip(wanted, found):
        templates.add(name)
        cases += 1
        raised += "error" in want
        if want.get("error", "").startswith("TypeError") and "text" in have:
            # A slip of the template, such as a loop over tools that are not there: pare takes nothing for an empty list.
            lenient += 1
            continue
        if ("error" in want) != ("error" in have) or want.get("text") != have.get("text"):
            differing.setdefault(name, []).append({"case": case, "transformers": want, "pare": have})
    report = {
        "versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "templates": len(templates),
        "cases": cases,
        "raised": raised,
        "lenient": lenient,
        "agrees": not differing,
        "differing": {name: {"cases": len(rows), "first": rows[0]} for name, rows in differing.items()},
    }
    print(json.dumps(report, ensure_ascii=False, indent=1))
    sys.exit(bool(differing))


main()
