"""Strict parser for untrusted JSON: no key twice, no NaN, no endless nesting, every value of its expected kind.

Refuses with a ValueError of half a sentence, short however long the value is. Standard library only.
"""

from __future__ import annotations

import json
import math
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from rakuten_models.errors import shown

MAX_DEPTH = 32

# Tables and files hold codes as signed 64-bit numbers.
MAX_CODE = 2**63 - 1


def parse_json(data: bytes) -> Any:
    """The value in a JSON file of UTF-8.

    Raises:
        ValueError: No JSON, a key twice in one object, NaN or Infinity or a number too large for them, or nesting
            deeper than 32.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_doubles,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}") from error
    layer, depth = [value], 0
    while layer := [inner for each in layer for inner in _children(each)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
    return value


def whole_number(value: Any, name: str, least: int, most: int) -> int:
    """The value, or ValueError if it is no int from `least` to `most` (no boolean, no 1.0)."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is {shown(value)}, expected a whole number from {least} to {most}")
    return value


def number(value: Any, name: str) -> float:
    """The value as float, or ValueError if it is no finite number or a boolean."""
    # JSON's whole numbers have no largest; a float has.
    if type(value) not in (int, float) or not -sys.float_info.max <= value <= sys.float_info.max:
        raise ValueError(f"{name} is {shown(value)}, expected a number")
    return float(value)


def text(value: Any, name: str, most: int = 1000, *, one_line: bool = True) -> str:
    """The value, or ValueError if it is no printable string of at most `most` characters.

    `one_line` refuses control characters, which a terminal would act on.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} is {shown(value)}, expected a text")
    if len(value) > most:
        raise ValueError(f"{name} has {len(value)} characters, expected at most {most}")
    kinds = {unicodedata.category(character) for character in value}
    if "Cs" in kinds or (one_line and "Cc" in kinds):
        raise ValueError(f"{name} is {shown(value)}, expected characters that can be shown")
    return value


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """The value, or ValueError if it is no object."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {shown(value)}, expected an object")
    return value


def sequence(value: Any, name: str, most: int) -> Sequence[Any]:
    """The value, or ValueError if it is no list of at most so many entries."""
    if not isinstance(value, list):
        raise ValueError(f"{name} is {shown(value)}, expected a list")
    if len(value) > most:
        raise ValueError(f"{name} has {len(value)} entries, expected at most {most}")
    return value


def _object_without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it holds {shown(double)} twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is no number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"it holds the number {shown(digits)}, which is too large")
    return value


def _children(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()
