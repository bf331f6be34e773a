"""Bundles that somebody damaged or made to do harm: each a folder of hard links with one thing changed.

`mutate` changes a file at random (bits, lengths, blocks, another file's content) or by its structure (values in
JSON, fields of the compiled models, members of `.keras` archives), and then leaves the hashes wrong or makes them fit.
"""

import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from rakuten_models.bundle.config import ALL_FILES, CONFIG_FILE, HASHED_FILES
from rakuten_models.files import file_facts

# What stands in for a value of JSON.
HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**70), 0.5, 1e308, 1e-320, "", "a", "\u0000", "../../etc/passwd",
    "/etc/passwd", "x" * 100_000, [], {}, [[]], {"a": {}}, [0] * 1000, "NaN", "text_model.tflite", "\ud800",
)  # fmt: skip


def linked_copy(bundle: Path, folder: Path) -> Path:
    """A folder with the bundle's files as hard links, which cost nothing; write with `replace` alone."""
    folder.mkdir(parents=True)
    for path in bundle.iterdir():
        os.link(path, folder / path.name)
    return folder


def replace(path: Path, content: bytes) -> None:
    """Give a link other content without touching the file it was."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def fit_hashes(folder: Path) -> None:
    """Make config.json describe the files that are there, as an attacker would; it may be no JSON any more."""
    try:
        content = json.loads((folder / CONFIG_FILE).read_bytes())
        for name in content["files"]:
            if name in HASHED_FILES and (folder / name).is_file():
                content["files"][name] = file_facts(folder / name)
        replace(folder / CONFIG_FILE, json.dumps(content).encode())
    except (ValueError, KeyError, TypeError, UnicodeEncodeError, RecursionError):
        return


def mutate(folder: Path, dice: random.Random, names: tuple[str, ...] = ALL_FILES) -> str:
    """Change one file of a linked copy; say what was done.

    Args:
        folder: From `linked_copy`.
        dice: Decides everything.
        names: Which files may be changed.
    """
    present = [name for name in names if (folder / name).is_file()]
    # The models and the JSON files that decide are where it gets interesting.
    weights = [4 if name in (*HASHED_FILES, CONFIG_FILE) else 1 for name in present]
    name = dice.choices(present, weights)[0]
    path = folder / name
    structured = _STRUCTURED.get(path.suffix) if dice.random() < 0.6 else None
    done = (structured or dice.choice(_RANDOM))(path, dice)
    fitting = dice.random() < 0.8
    if fitting:
        fit_hashes(folder)
    return f"{name}: {done}, hashes {'made to fit' if fitting else 'left wrong'}"


# Random changes of any file.


def _flip(path: Path, dice: random.Random) -> str:
    content = bytearray(path.read_bytes())
    count = dice.choice((1, 1, 3, 50))
    # Half of them where formats keep their tables.
    for _ in range(count):
        place = dice.randrange(min(len(content), dice.choice((512, len(content)))))
        content[place] ^= 1 << dice.randrange(8)
    replace(path, bytes(content))
    return f"{count} bits flipped"


def _cut(path: Path, dice: random.Random) -> str:
    content = path.read_bytes()
    length = dice.choice((0, 1, 8, dice.randrange(len(content)), len(content) - 1))
    replace(path, content[:length])
    return f"cut to {length} bytes"


def _insert(path: Path, dice: random.Random) -> str:
    content = path.read_bytes()
    place, count = dice.randrange(len(content)), dice.choice((1, 4, 1000))
    replace(path, content[:place] + dice.randbytes(count) + content[place:])
    return f"{count} bytes inserted at {place}"


def _zero(path: Path, dice: random.Random) -> str:
    content = bytearray(path.read_bytes())
    place = dice.randrange(len(content))
    count = min(dice.choice((4, 64, 65_536)), len(content) - place)
    fill = dice.choice((b"\x00", b"\xff"))
    content[place : place + count] = fill * count
    replace(path, bytes(content))
    return f"{count} bytes set to {fill[0]} at {place}"


def _other_file(path: Path, dice: random.Random) -> str:
    other = dice.choice([each for each in path.parent.iterdir() if each.name != path.name])
    replace(path, other.read_bytes())
    return f"replaced by {other.name}"


def _swap(path: Path, dice: random.Random) -> str:
    other = dice.choice([each for each in path.parent.iterdir() if each.name != path.name])
    mine, theirs = path.read_bytes(), other.read_bytes()
    replace(path, theirs)
    replace(other, mine)
    return f"swapped with {other.name}"


def _move_block(path: Path, dice: random.Random) -> str:
    content = bytearray(path.read_bytes())
    count = min(dice.choice((4, 16, 256)), len(content))
    start, end = dice.randrange(len(content) - count + 1), dice.randrange(len(content) - count + 1)
    content[end : end + count] = content[start : start + count]
    replace(path, bytes(content))
    return f"{count} bytes copied from {start} to {end}"


_RANDOM: tuple[Callable[[Path, random.Random], str], ...] = (
    _flip, _flip, _cut, _insert, _zero, _other_file, _swap, _move_block,
)  # fmt: skip

# JSON.


def _change_json(path: Path, dice: random.Random) -> str:
    content = json.loads(path.read_bytes())
    kind = dice.choice(("value", "value", "value", "remove", "double", "constant", "deep", "wide", "near"))
    where = _random_place(content, dice)
    holder, key = where
    if kind in ("double", "constant"):
        marker = "MARKER-OF-THE-TEST"
        holder[key] = marker
        text = json.dumps(content)
        literal = dice.choice(("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000))
        if kind == "double":
            literal = '{"a": 1, "a": 2}'
        replace(path, text.replace(f'"{marker}"', literal).encode())
        return f"{literal[:20]} at {key!r}"
    if kind == "remove":
        del holder[key]
    elif kind == "deep":
        depth = dice.choice((40, 900, 100_000))
        holder[key] = "MARKER-OF-THE-TEST"
        text = json.dumps(content).replace('"MARKER-OF-THE-TEST"', "[" * depth + "]" * depth)
        replace(path, text.encode())
        return f"{depth} lists in each other at {key!r}"
    elif kind == "wide":
        holder[key] = [0] * 300_000
    elif kind == "near" and isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
        holder[key] = holder[key] + dice.choice((1, -1, 1e-4, 1e-2, 100))
    else:
        holder[key] = dice.choice(HOSTILE_VALUES)
    replace(path, json.dumps(content).encode())
    return f"{kind} at {key!r}"


def _random_place(content: Any, dice: random.Random) -> tuple[Any, Any]:
    holder, key = None, None
    value = content
    while isinstance(value, (dict, list)) and value and (holder is None or dice.random() < 0.8):
        holder = value
        key = dice.choice(list(value)) if isinstance(value, dict) else dice.randrange(len(value))
        value = holder[key]
    return holder, key


# Compiled models.


def _change_model(path: Path, dice: random.Random) -> str:
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = dice.choice(model.subgraphs)
    tensor, operator = dice.choice(graph.tensors), dice.choice(graph.operators)
    wild = dice.choice((-1, 0, 1, 2, 7, len(graph.tensors), len(graph.tensors) + 5, 2**31 - 1, -(2**31)))
    near = dice.randrange(len(graph.tensors))
    kind = dice.choice(
        ("shape", "buffer", "type", "opcode", "code", "input", "output", "options", "graph input", "signature",
         "numbers", "numbers", "numbers", "cut buffer", "scale", "drop", "double", "order", "version",
         "version of code", "tensor name", "other graph")
    )  # fmt: skip
    if kind == "shape" and tensor.shape is not None and len(tensor.shape):
        tensor.shape = np.array(tensor.shape, np.int32)
        tensor.shape[dice.randrange(len(tensor.shape))] = dice.choice((wild, int(tensor.shape[0]) + 1))
    elif kind == "buffer":
        tensor.buffer = dice.choice((dice.randrange(len(model.buffers)), 0, len(model.buffers) + 3, 2**31))
    elif kind == "type":
        tensor.type = dice.randrange(20)
    elif kind == "opcode":
        operator.opcodeIndex = dice.choice((dice.randrange(len(model.operatorCodes)), len(model.operatorCodes), 2**31))
    elif kind == "code":
        code = dice.choice(model.operatorCodes)
        code.builtinCode = dice.randrange(0, 210)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    elif kind in ("input", "output"):
        places = np.array(operator.inputs if kind == "input" else operator.outputs, np.int32)
        if len(places):
            places[dice.randrange(len(places))] = dice.choice((wild, near))
        if kind == "input":
            operator.inputs = places
        else:
            operator.outputs = places
    elif kind == "options":
        operator.builtinOptions, operator.builtinOptionsType = None, 0
    elif kind == "graph input":
        places = np.array(dice.choice((graph.inputs, graph.outputs)), np.int32)
        places[dice.randrange(len(places))] = dice.choice((wild, near))
        graph.inputs = places
    elif kind == "signature":
        signature = dice.choice(model.signatureDefs)
        entry = dice.choice([*signature.inputs, *signature.outputs])
        if dice.random() < 0.3:
            entry.name = dice.choice((b"", b"pixels", b"x" * 10_000))
        else:
            entry.tensorIndex = dice.choice((near, abs(wild)))
    elif kind == "numbers":
        return _change_numbers(path, model, dice)
    elif kind == "cut buffer":
        buffer = dice.choice([each for each in model.buffers if each.data is not None and len(each.data)])
        buffer.data = buffer.data[: dice.randrange(len(buffer.data))]
    elif kind == "scale" and tensor.quantization is not None:
        tensor.quantization.scale = np.array([dice.choice((np.nan, np.inf, 0, -1, 1e30))], np.float32)
        tensor.quantization.zeroPoint = np.array([dice.choice((0, 2**40))], np.int64)
        tensor.quantization.quantizedDimension = dice.choice((0, 9, -1))
    elif kind == "drop":
        graph.operators.remove(operator)
    elif kind == "double":
        graph.operators.insert(dice.randrange(len(graph.operators)), operator)
    elif kind == "order":
        graph.operators.reverse()
    elif kind == "version":
        model.version = dice.choice((0, 2, 4, 2**31))
    elif kind == "version of code":
        dice.choice(model.operatorCodes).version = dice.choice((0, 99, -1))
    elif kind == "tensor name":
        tensor.name = b"\xff" * 1000
    else:
        graph.operators = dice.choice(model.subgraphs).operators
    _write_model(path, model)
    return f"{kind} changed"


def _change_numbers(path: Path, model: Any, dice: random.Random) -> str:
    """Weights: one or all of a buffer to NaN, infinity, a large number, zero, or other numbers."""
    kinds = {schema.TensorType.FLOAT16: "<f2", schema.TensorType.FLOAT32: "<f4", schema.TensorType.INT8: "<i1"}
    tensors = [
        tensor
        for graph in model.subgraphs
        for tensor in graph.tensors
        if tensor.type in kinds
        and model.buffers[tensor.buffer].data is not None
        and len(model.buffers[tensor.buffer].data)
    ]
    tensor = dice.choice(tensors)
    values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), kinds[tensor.type]).copy()
    value = dice.choice((np.nan, np.inf, 6e4, -5.0, 0.0))
    if values.dtype.kind == "i":
        value = dice.randrange(-128, 128)
    share = dice.choice(("one", "all", "some"))
    if share == "one":
        values[dice.randrange(len(values))] = value
    elif share == "all":
        values[:] = value
    else:
        values[:: dice.randrange(2, 50)] = value
    model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
    _write_model(path, model)
    return f"{share} of {len(values)} weights set to {value}"


def _write_model(path: Path, model: Any) -> None:
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    replace(path, bytes(builder.Output()))


# Keras archives.


def _change_archive(path: Path, dice: random.Random) -> str:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    compression = zipfile.ZIP_STORED
    kind = dice.choice(("json", "json", "json", "weights", "weights", "more", "less", "bomb", "lambda"))
    if kind == "json":
        scratch = path.with_name("scratch.json")
        scratch.write_bytes(members["config.json"])
        done = _change_json(scratch, dice)
        members["config.json"] = scratch.read_bytes()
        scratch.unlink()
        kind = f"json, {done}"
    elif kind == "weights":
        content = bytearray(members["model.weights.h5"])
        for _ in range(dice.choice((1, 20, 500))):
            content[dice.randrange(min(len(content), dice.choice((4096, len(content)))))] = dice.randrange(256)
        members["model.weights.h5"] = bytes(content)
    elif kind == "more":
        members[dice.choice(("../../evil.py", "/etc/evil", "assets/evil.pkl"))] = b"cos\nsystem\n(S'true'\ntR."
    elif kind == "less":
        members.pop(dice.choice(sorted(members)))
    elif kind == "bomb":
        members["model.weights.h5"], compression = bytes(50_000_000), zipfile.ZIP_DEFLATED
    else:
        content = json.loads(members["config.json"])
        layer = dice.choice(content["config"]["layers"])
        layer |= {"class_name": "Lambda", "module": "keras.layers", "registered_name": None}
        layer["config"] = {"name": layer["name"], "function": {"class_name": "__lambda__", "config": {"code": "4w=="}}}
        members["config.json"] = json.dumps(content).encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    replace(path, file.getvalue())
    return f"archive, {kind}"


_STRUCTURED = {".json": _change_json, ".tflite": _change_model, ".keras": _change_archive}
