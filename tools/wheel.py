"""Puts one program into a Python wheel, so that pip installs it where there is no compiler.

    python tools/wheel.py PROGRAM VERSION PLATFORM FOLDER LICENCE...

Writes FOLDER/pare_llm-VERSION-py3-none-PLATFORM.whl and prints its path. The same inputs give the same bytes.
"""

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

NAME = "pare_llm"
# The earliest time that the format can say: a wheel does not say when it was made.
EARLIEST = (1980, 1, 1, 0, 0, 0)


def main(program, version, platform, folder, *licences):
    tag = f"py3-none-{platform}"
    info = f"{NAME}-{version}.dist-info"
    named = "".join(f"License-File: {Path(licence).name}\n" for licence in licences)
    metadata = (
        "Metadata-Version: 2.4\n"
        f"Name: pare-llm\nVersion: {version}\n"
        "Summary: Find what is redundant in a language model, remove it, prove what was kept\n"
        f"License-Expression: MIT OR Apache-2.0\n{named}Requires-Python: >=3.8\n"
    )
    tags = "".join(f"Tag: py3-none-{one}\n" for one in platform.split("."))
    wheel = f"Wheel-Version: 1.0\nGenerator: pare ({version})\nRoot-Is-Purelib: false\n{tags}"
    members = [
        (f"{NAME}-{version}.data/scripts/pare", Path(program).read_bytes(), 0o755),
        (f"{info}/METADATA", metadata.encode(), 0o644),
        (f"{info}/WHEEL", wheel.encode(), 0o644),
    ]
    members += [(f"{info}/licenses/{Path(path).name}", Path(path).read_bytes(), 0o644) for path in licences]
    record = "".join(f"{name},sha256={digest(content)},{len(content)}\n" for name, content, _ in members)
    members.append((f"{info}/RECORD", f"{record}{info}/RECORD,,\n".encode(), 0o644))

    path = Path(folder) / f"{NAME}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content, mode in members:
            member = zipfile.ZipInfo(name, EARLIEST)
            member.external_attr = (0o100000 | mode) << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content, compresslevel=9)
    print(path)


def digest(content):
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    main(*sys.argv[1:])
