"""Looks for a text in files, in every spelling that a program might have written it in."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterable
from pathlib import Path


def spellings(text: str) -> list[bytes]:
    """Return the text as UTF-8, UTF-16, hexadecimal and base64 at each of its three alignments, in three cases."""
    found: set[bytes] = set()
    for form in {text, text.casefold(), text.upper()}:
        data = form.encode()
        found |= {data, form.encode("utf-16-le"), form.encode("utf-16-be")}
        found |= {data.hex().encode(), data.hex().upper().encode()}
        for padding in range(3):
            # Of the groups of four characters, those that hold nothing but the text.
            encoded = base64.b64encode(b"\0" * padding + data)
            inner = encoded[4 if padding else 0 : len(encoded) // 4 * 4 - 4]
            found |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return sorted(found)


def files_with(text: str, folders: Iterable[Path]) -> list[Path]:
    """Return the files below `folders` that hold any spelling of `text`; it is in no process's arguments."""
    done = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings", "--file=-", "--", *folders],
        input=b"\n".join(spellings(text)) + b"\n",
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
    )
    # 1: nothing found. 2 is an error unless it found something: a server may remove a file meanwhile.
    assert done.returncode in (0, 1), done.stderr.decode()
    return [Path(line) for line in done.stdout.decode().splitlines()]
