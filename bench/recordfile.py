"""A record as a file, `<key>.json`: {"sha256": of the record's canonical JSON, "record": …}.

A file that was cut, edited, renamed or written by a newer version is told from a good one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import UserError
from bench.record import SCHEMA, Record

GONE = "there is no such file"


def text(record: Record) -> str:
    """What the file holds."""
    body = record.model_dump(mode="json")
    return json.dumps({"sha256": _digest(body), "record": body}, indent=1, ensure_ascii=False)


def read(path: Path) -> tuple[Record | None, str]:
    """The record, or None and why it is none.  What the system does not let us read may be a good one: an error."""
    try:
        content: Any = json.loads(path.read_text())
        body = content["record"]
    except FileNotFoundError:
        return None, GONE
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError):
        return None, "not a whole record"
    if isinstance(body, dict) and body.get("schema_version", 0) > SCHEMA:
        return None, f"written by a newer version (schema {body['schema_version']}, this is {SCHEMA})"
    if content.get("sha256") != _digest(body):
        return None, "edited by hand: its checksum does not fit"
    try:
        record = Record.model_validate(body)
    except ValidationError as error:
        return None, f"not a record of this version: {error.errors()[0]['msg']}"
    if record.key != path.stem or record.cell.key != record.key:
        return None, "named for another cell"
    return record, ""


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
