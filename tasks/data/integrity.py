"""Is a file what was published? Size and SHA-256, before anything is parsed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tasks.data.catalogue import DataFile


def fault(size: int, sha256: str, file: DataFile) -> str:
    """Return why a content of `size` bytes and sum `sha256` is not `file`; '' when it is."""
    accepted = ((file.bytes, file.sha256), *file.alternatives)
    if (size, sha256) in accepted:
        return ""
    sizes = [known for known, _ in accepted]
    if size not in sizes:
        word = "truncated" if size < min(sizes) else "wrong size"
        return f"{word}: {size} bytes, expected {' or '.join(map(str, sizes))}"
    expected = next(known for bytes_, known in accepted if bytes_ == size)
    return f"wrong content: sha256 {sha256[:12]}…, expected {expected[:12]}…"


def content_fault(content: bytes, file: DataFile) -> str:
    """Return why `content` is not `file`; '' when it is."""
    return fault(len(content), hashlib.sha256(content).hexdigest(), file)


def file_fault(path: Path, file: DataFile) -> str:
    """Return why what lies at `path` is not `file`; '' when it is. Reads in pieces, whatever the size."""
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return fault(stream.tell(), digest, file)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
