"""Download into the user cache. A file appears there under its name only after its checksum was found right."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.data.catalogue import DataError, DataFile
from tasks.data.integrity import content_fault, file_fault

OFFLINE_VARIABLE = "HYPERGRAD_BENCH_OFFLINE"
MIRROR_VARIABLE = "HYPERGRAD_BENCH_MIRROR"
TIMEOUT = 30  # seconds without a byte before a server counts as silent


def addresses(file: DataFile) -> tuple[str, ...]:
    """Return the URLs `file` is had from; a mirror has the layout of a data folder, archives at its root."""
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    if mirror and file.urls:
        return (f"{mirror.rstrip('/')}/{file.path}",)
    return file.urls


def download(files: Iterable[DataFile], folder: Path) -> None:
    """Download `files` into `folder`, each archive once. Raises DataError with the URL and the reason."""
    by_archive: dict[DataFile | None, list[DataFile]] = {}
    for file in files:
        by_archive.setdefault(file.archive, []).append(file)
    for archive, members in by_archive.items():
        if archive is None:
            for file in members:
                with _fetched(file, folder) as part:
                    _put(part, folder / file.path)
        else:
            with _fetched(archive, folder) as part:
                _unpack(part, archive, members, folder)


@contextmanager
def _fetched(file: DataFile, folder: Path) -> Iterator[Path]:
    """Yield a temporary file in the folder of `file` that holds its checked content; remove it afterwards."""
    urls = addresses(file)
    if not urls:
        raise DataError(
            f"{file.path} cannot be downloaded: no public address has it;"
            " put it into the folder that HYPERGRAD_BENCH_DATA names"
        )
    if os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0"):
        raise DataError(
            f"{file.path} is missing and {OFFLINE_VARIABLE} forbids downloading {urls[0]}:"
            " unset it, or put the file into the folder that HYPERGRAD_BENCH_DATA names"
        )
    target = folder / file.path
    # The process id keeps two workers that download the same file from writing into one another's part.
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    _make_folder(target.parent)
    try:
        reasons = []
        for url in urls:
            reason = _transfer(url, part) or file_fault(part, file)
            if not reason:
                yield part
                return
            reasons.append(f"{url}: {reason}")
        raise DataError(f"{file.path} could not be downloaded: {'; '.join(reasons)}; nothing was kept, try again")
    finally:
        part.unlink(missing_ok=True)


def _transfer(url: str, part: Path) -> str:
    """Write what `url` answers to `part`; return why that failed, '' when it did not."""
    # pooch.retrieve knows one checksum a file; ours may have several, so only its transfer is used.
    import pooch
    import requests

    # `identity`: a server that calls a .gz file an encoding would have it unpacked on the way.
    fetch = pooch.HTTPDownloader(timeout=TIMEOUT, headers={"Accept-Encoding": "identity"})
    try:
        fetch(url, str(part), None)
    except requests.HTTPError as error:
        answer = error.response
        return f"the server answered {answer.status_code} {answer.reason}" if answer is not None else str(error)
    except requests.Timeout:
        return f"no answer within {TIMEOUT} s"
    except requests.RequestException as error:
        got = part.stat().st_size if part.exists() else 0
        if got:
            return f"truncated: the transfer broke off after about {got} bytes"
        return f"no connection to the server ({type(error).__name__})"
    except OSError as error:
        return f"cannot write {part.parent} ({error.strerror})"
    return ""


def _unpack(archive_path: Path, archive: DataFile, members: list[DataFile], folder: Path) -> None:
    """Put `members` of the (already checked) tar archive into `folder`; no other member is touched."""
    wanted = {member.path: member for member in members}
    try:
        with tarfile.open(archive_path) as tar:
            for entry in tar:
                member = wanted.get(entry.name)
                stream = tar.extractfile(entry) if member is not None else None
                if member is None or stream is None:
                    continue
                content = stream.read()
                reason = content_fault(content, member)
                if reason:
                    raise DataError(f"{member.path} in {addresses(archive)[0]}: {reason}; it was not kept")
                target = folder / member.path
                part = target.with_name(f".{target.name}.{os.getpid()}.part")
                _make_folder(target.parent)
                try:
                    part.write_bytes(content)
                    _put(part, target)
                finally:
                    part.unlink(missing_ok=True)
                del wanted[entry.name]
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{addresses(archive)[0]} is not a readable tar archive ({error}); nothing was kept") from None
    except OSError as error:
        raise DataError(f"{archive.path} cannot be unpacked into {folder}: {error.strerror or error}") from None
    if wanted:
        raise DataError(f"{addresses(archive)[0]} holds no {', '.join(wanted)}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"the cache folder {folder} cannot be made ({error.strerror}): set HYPERGRAD_BENCH_CACHE to another"
        ) from None


def _put(part: Path, target: Path) -> None:
    """Move `part` to its name in one step, so that a reader sees the whole file or none."""
    try:
        os.replace(part, target)
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error.strerror}") from None
