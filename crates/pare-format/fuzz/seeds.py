"""Writes the seeds of corpus/safetensors: small files, each with one property. Run from this directory."""

import json
import pathlib
import struct

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "C64": 8}


def raw(header, data=b""):
    header = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(header)) + header + data


def tensors(entries, metadata=None, pad=True):
    """A valid file of (name, dtype, shape, bytes)."""
    header, at = {}, 0
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, dtype, shape, size in entries:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":"))
    text += " " * (-len(text) % 8 if pad else 0)
    return raw(text, bytes(at))


def entry(offsets="[0,4]", shape="[1]", dtype='"F32"', name="a"):
    return '{"%s":{"dtype":%s,"shape":%s,"data_offsets":%s}}' % (name, dtype, shape, offsets)


SEEDS = {
    "empty": b"",
    "short": b"\x02\0\0",
    "length_max": b"\xff" * 8,
    "none": raw("{}      "),
    "one": tensors([("a", "F32", [1], 4)]),
    "types": tensors([(d.lower(), d, [2], 2 * s) for d, s in SIZES.items()], {"format": "pt"}),
    "packed": tensors([("a", "F4", [2, 3], 3), ("b", "F6_E2M3", [4], 3)]),
    "ranks": tensors([("a", "U8", [], 1), ("b", "U8", [0], 0), ("c", "U8", [1, 0, 5], 0), ("d", "U8", [1, 2, 3, 1, 1, 1, 1, 1], 6)]),
    "unpadded": tensors([("a", "U8", [1], 1)], pad=False),
    "metadata_only": tensors([], {"k": "v", "\u00e9": "\n"}),
    "spaces_first": raw(" \n" + entry(), bytes(4)),
    "nul_padding": raw(entry() + "\0\0", bytes(4)),
    "duplicate": raw(entry()[:-1] + "," + entry()[1:], bytes(4)),
    "negative": raw(entry("[-1,3]"), bytes(4)),
    "float": raw(entry("[0,4e0]"), bytes(4)),
    "overflow": raw(entry(shape="[2,18446744073709551614]"), bytes(4)),
    "backwards": raw(entry("[4,0]"), bytes(4)),
    "tail": raw(entry(), bytes(5)),
    "deep": raw('{"a":' + "[" * 70),
    "name_escape": raw(entry(name="\\u001b[2J"), bytes(4)),
    "bad_utf8": raw(b'{"\xff":1}'),
    "unknown_field": raw(entry()[:-2] + ',"x":0}}', bytes(4)),
}

folder = pathlib.Path("corpus/safetensors")
folder.mkdir(parents=True, exist_ok=True)
for name, content in SEEDS.items():
    (folder / name).write_bytes(content)
