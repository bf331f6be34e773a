"""Reads the records of a JSON Lines file - one object a line - and finds the column types that hold them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow

from rakuten_models.catalog.lines import Line, Lines, Record
from rakuten_models.errors import Message

# A larger integer would change its value in a column of floats.
_MAX_EXACT_FLOAT = 2**53


def json_records(path: Path, offset: int = 0, line: int = 1) -> Iterator[Record]:
    """The records of a JSON Lines file, one object a line; from a byte on where the line of that number begins."""
    with Lines(path, offset, line) as lines:
        for text in lines:
            taken = lines.taken[-1]
            lines.begin_record()
            if text.strip() or taken.problem:
                value, problem = _json_object(taken)
                yield Record(taken.number, value, taken.problem or problem, len(text), taken.offset)


def _json_object(line: Line) -> tuple[dict[str, Any], Message | None]:
    try:
        value = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "too large or too deep a value"
        return {}, Message("catalog.line_no_json", line=line.number, reason=reason)
    if not isinstance(value, dict):
        return {}, Message("catalog.line_no_object", line=line.number, kind=type(value).__name__)
    if "\\u" in line.text:
        mended = _without_surrogates(value)
        if mended != value:
            return mended, Message("catalog.line_surrogate", line=line.number)
    return value, None


def _without_surrogates(value: Any) -> Any:
    """Half of a surrogate pair is no character and cannot be written."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    return [_without_surrogates(each) for each in value] if isinstance(value, list) else value


def json_kind(value: Any) -> str:
    """What a value is, for `json_type`: string, bool, integer, large integer, float, null or other."""
    if value is None or isinstance(value, (bool, str)):
        return {bool: "bool", str: "string"}.get(type(value), "null")
    if isinstance(value, int):
        exact = abs(value) <= _MAX_EXACT_FLOAT
        return "integer" if exact else "large integer" if -(2**63) <= value < 2**63 else "other"
    return "float" if isinstance(value, float) else "other"


def json_type(kinds: set[str]) -> pyarrow.DataType:
    """The type of a column whose values are of these kinds; a string where they do not agree."""
    if kinds and kinds <= {"integer", "large integer"}:
        return pyarrow.int64()
    if kinds and kinds <= {"integer", "float"}:
        return pyarrow.float64()
    return pyarrow.bool_() if kinds == {"bool"} else pyarrow.string()


def json_value(value: Any, kind: pyarrow.DataType) -> Any:
    """A value as its column holds it: as it is, or its JSON text in a column of strings."""
    if value is None or isinstance(value, str) or kind != pyarrow.string():
        return value
    return json.dumps(value, ensure_ascii=False)
