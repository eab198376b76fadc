"""Token ids of SmolLM2 for awkward texts, by an independent reference: plain byte-pair merging over the GGUF file's own
vocabulary and merges, with the `regex` module for the words.

    python goldens/tokenizer/tokenizer.py MODEL.gguf > goldens/tokenizer/smollm2.json

Needs `gguf` and `regex`. Nothing here shares code with the tokenizers library.
"""

import json
import sys

import regex
from gguf import GGUFReader

# GPT-2's words; white space by the Unicode property, as `\s` also takes U+001C to U+001F in Python.
WORDS = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+"
    r"|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+"
)

TEXTS = [
    "",
    "Hello, world!",
    " leading space",
    "trailing space ",
    "two  spaces   three",
    "   ",
    " ",
    "\n",
    "\n\n\n",
    "a\nb",
    "line\r\nline\r\n",
    "\r",
    "\ttab\t\ttabs",
    " \t \n \t mixed \n",
    "no-break\u00a0space\u2003em\u3000ideographic",
    "It's they're we've I'm you'll he'd can't",
    "IT'S THEY'RE",
    "it\u2019s curly",
    "0123456789",
    "3.14159 1,000,000 0x1F 1e-9",
    "v2.0.1-rc3",
    "\u0661\u0662\u0663 \u00bd \u2167 \u00b2",
    "a1b2c3",
    "<|im_end|>",
    "<|im_start|>system\nYou are evil<|im_end|>\n",
    "a<|endoftext|>b",
    "< |im_end|>",
    "<|im_end|",
    "<repo_name>x<file_sep>y",
    "\u00e9 e\u0301 \u00f1 n\u0303",
    "\u0301\u0301\u0301",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f\u031e\u0320\u034dA",
    "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f3f3\ufe0f\u200d\U0001f308",
    "\U0001f1e9\U0001f1ea",
    "\U0001f44d\U0001f3fd",
    "\u4e2d\u6587\u6d4b\u8bd5",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8\u3002",
    "\ud55c\uad6d\uc5b4 \uc2dc\ud5d8",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\u202eright to left\u202c",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
    "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5",
    "\ufeffwith a mark",
    "zero\u200bwidth\u200cjoin\u200der",
    "soft\u00adhyphen",
    "\x00",
    "a\x00b\x00",
    "\x1b[31mred\x1b[0m",
    "\x1c\x1d\x1e\x1f",
    "\x7f\x80\x9f",
    "\u2028\u2029\x85\x0b\x0c",
    "\ufdfa\ufb03 \u212b",
    "\U000e0041\U0010ffff",
    "a" * 100,
    "ab" * 60,
    "supercalifragilisticexpialidocious" * 4,
    "=" * 33 + "!" * 17,
    " " * 40 + "x" + " " * 9,
    "def f(x):\n    return x ** 2  # square\n",
    "{\"key\": [1, 2.5, null, true], \"\\u00e9\": \"\\n\"}",
    "https://example.org/a?b=c&d=%20#e",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "\\ / | ~ ` ^ @ # $ % & * ( ) [ ] { } < >",
    "...\u2026--\u2014\u201c\u201d\u00ab\u00bb",
    "\u00c0\u00c1\u00c2\u0100\u0142\u0143\u0120",
]


def alphabet():
    """Byte -> character, as in GPT-2."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in own]
    return {**{b: chr(b) for b in own}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def merge(symbols, ranks):
    """Joins the pair of lowest rank, leftmost first, until no pair is left."""
    symbols = list(symbols)
    while len(symbols) > 1:
        pairs = [(ranks.get((a, b), None), i) for i, (a, b) in enumerate(zip(symbols, symbols[1:]))]
        pairs = [p for p in pairs if p[0] is not None]
        if not pairs:
            break
        _, at = min(pairs)
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    return symbols


def main():
    reader = GGUFReader(sys.argv[1])
    field = lambda key: reader.fields["tokenizer.ggml." + key].contents()
    tokens, kinds, merges = field("tokens"), field("token_type"), field("merges")
    assert field("pre") == "smollm"
    ids = {t: i for i, t in enumerate(tokens)}
    ranks = {tuple(m.split(" ")): i for i, m in enumerate(merges)}
    special = sorted((t for t, k in zip(tokens, kinds) if k == 3), key=len, reverse=True)
    special = regex.compile("(" + "|".join(map(regex.escape, special)) + ")")
    chars = alphabet()

    def plain(text):
        out = []
        for part in regex.split(r"(\p{N})", text):
            for word in WORDS.findall(part):
                # Bytes without a token are dropped: the vocabulary has 235 of the 256.
                symbols = [c for c in (chars[b] for b in word.encode()) if c in ids]
                out += [ids[s] for s in merge(symbols, ranks)]
        return out

    def with_special(text):
        return [i for part in special.split(text) for i in ([ids[part]] if special.fullmatch(part) else plain(part))]

    rows = [{"text": t, "plain": plain(t), "special": with_special(t)} for t in TEXTS]
    lines = ",\n".join(json.dumps(row) for row in rows)
    print("[\n" + lines + "\n]")


main()
