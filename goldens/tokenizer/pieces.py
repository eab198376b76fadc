"""A small sentencepiece model and its ids for awkward texts, by sentencepiece itself.

    python goldens/tokenizer/pieces.py > goldens/tokenizer/pieces.json

Needs `sentencepiece`. The texts are those of smollm2.json beside this file.
"""

import io
import json
import pathlib

import sentencepiece

HERE = pathlib.Path(__file__).parent
TEXTS = [row["text"] for row in json.loads((HERE / "smollm2.json").read_text())]
PROSE = (
    "Every method is a way to spend quality on bytes or time. A candidate is a unit of the model, what would be done to "
    "it, and the distortion that it causes. The planner picks the best set under the budget, and the verifier accepts it "
    "or undoes it. The same inputs give the same bytes, whatever the number of threads. A text is read once, measured "
    "twice and cut in the end; the cutting is the least of the work, and the measuring is most of it. "
)

model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(PROSE.split(". ") + TEXTS[1:30]),
    model_writer=model,
    vocab_size=480,
    model_type="bpe",
    byte_fallback=True,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    character_coverage=0.98,
    minloglevel=2,
)
sp = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def kind(i):
    return 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1


ids = range(sp.get_piece_size())
rows = [{"text": t, "ids": sp.encode(t)} for t in TEXTS + [PROSE * 3]]
print("{")
print('"tokens": ' + json.dumps([sp.id_to_piece(i) for i in ids]) + ",")
print('"scores": ' + json.dumps([sp.get_score(i) for i in ids]) + ",")
print('"types": ' + json.dumps([kind(i) for i in ids]) + ",")
print('"rows": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]}")
