"""Every sentence by its code: it stands in messages/*.json, is used, gets the values it wants, and ends a command."""

import ast
import importlib
import re
import string
from pathlib import Path

import pytest

from benchmarks import report
from rakuten_models.cli import run_command
from rakuten_models.errors import Message, RakutenModelsError, templates
from training import errors as training_errors

ROOT = Path(__file__).parents[2]

FOLDERS = ("rakuten_models", "training", "benchmarks")

FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]

TREES = {path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

ENGLISH, FRENCH = templates("en"), templates("fr")

assert training_errors and report


def fields(template):
    """The names of the values that a template fills in, and how each is formatted."""
    return {name: form for _, name, form, _ in string.Formatter().parse(template) if name is not None}


def error_classes():
    """By name, every error class of the project and its module; by the base classes that the sources name."""
    found = {"RakutenModelsError": "rakuten_models.errors"}
    classes = [
        (node, ".".join(path.with_suffix("").parts).removesuffix(".__init__"))
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    for _ in range(4):
        for node, module in classes:
            if any(ast.unparse(base).rpartition(".")[2] in found for base in node.bases):
                found.setdefault(node.name, module)
    return found


CLASSES = error_classes()


def codes_of(argument):
    """The codes that an argument may be: a literal, or one of those that a condition chooses between."""
    if isinstance(argument, ast.IfExp):
        return [*codes_of(argument.body), *codes_of(argument.orelse)]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [argument.value]
    return []


def uses():
    """(where, name of what is called, code, keywords; None in place of names that are not written there)."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                called = ast.unparse(node.func).rpartition(".")[2]
                for code in codes_of(node.args[0]):
                    if called in CLASSES or called == "Message" or code in ENGLISH:
                        yield f"{path}:{node.lineno}", called, code, [word.arg for word in node.keywords]


USES = list(uses())


def test_every_code_in_the_sources_has_a_sentence():
    makers = {*CLASSES, "Message"}
    assert not [(where, code) for where, called, code, _ in USES if called in makers and code not in ENGLISH]


def test_every_sentence_is_used():
    nodes = [node for tree in TREES.values() for node in ast.walk(tree)]
    literals = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    # A code that is put together, as in f"batch.output_of_other_{key}".
    beginnings = tuple(
        str(node.values[0].value)
        for node in nodes
        if isinstance(node, ast.JoinedStr)
        and isinstance(node.values[0], ast.Constant)
        and re.fullmatch(r"[a-z]+\.[a-z_]+", str(node.values[0].value))
    )
    assert not sorted(code for code in ENGLISH.keys() - literals if not code.startswith(beginnings))


def test_every_sentence_gets_the_values_it_names_and_no_others():
    wrong = []
    for where, called, code, keywords in USES:
        wanted = set(fields(ENGLISH.get(code, "")))
        given = {name for name in keywords if name}
        # What is passed on, or called by another name, may add values of its own.
        whole = None not in keywords and (called in CLASSES or called == "Message")
        if code in ENGLISH and ((given != wanted) if whole else not given <= wanted):
            wrong.append((where, code, sorted(given ^ wanted)))
    assert not wrong


def test_french_sentences_are_translations():
    assert not sorted(FRENCH.keys() - ENGLISH.keys())
    assert not [code for code in FRENCH if set(fields(FRENCH[code])) != set(fields(ENGLISH[code]))]


@pytest.mark.parametrize("folder", FOLDERS)
def test_codes_are_sorted_one_a_line(folder):
    for file in (ROOT / folder).rglob("messages/*.json"):
        lines = file.read_text(encoding="utf-8").splitlines()[1:-1]
        codes = [line.split('"')[1] for line in lines]
        assert codes == sorted(codes) and len(codes) == len(set(codes)), file


def sample(form):
    """A value that a format takes."""
    return 7 if form and form[-1] in "bcdeEfFgGnoxX,%" else "x"


def end_of(capsys, error):
    def main(_):
        raise error

    return run_command(main, []), capsys.readouterr()


@pytest.mark.parametrize("code", sorted(ENGLISH))
def test_a_sentence_ends_a_command_with_status_2(capsys, code):
    values = {name: sample(form) for name, form in fields(ENGLISH[code]).items()}
    status, printed = end_of(capsys, RakutenModelsError(code, **values))
    assert status == 2 and printed.out == ""
    assert printed.err == f"error: {ENGLISH[code].format(**values)}\n"
    assert printed.err.count("\n") == 1 and code not in printed.err


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_ends_a_command_with_status_2_and_its_sentence(capsys, name):
    error_class = getattr(importlib.import_module(CLASSES[name]), name)
    assert issubclass(error_class, RakutenModelsError)
    code = next(code for code in sorted(ENGLISH) if not fields(ENGLISH[code]))
    status, printed = end_of(capsys, error_class(code))
    assert status == 2 and printed.err == f"error: {Message(code)}\n"
