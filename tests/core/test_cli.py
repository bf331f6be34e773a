"""How commands end: a sentence on standard error and an exit status."""

import errno
import os

import pytest

from rakuten_models.cli import run_command
from rakuten_models.errors import RakutenModelsError


def raising(error):
    def main(arguments):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (RakutenModelsError("product.empty"), 2, "error: The product holds no text and no picture; give"),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/file"), 1, "(out/file); free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 1, "choose a folder that can be written to"),
        (OSError(errno.EADDRINUSE, "Address in use"), 1, "choose another port with --port"),
        (OSError("odd"), 1, "error: odd; look at the path"),
    ],
)
def test_errors_become_sentences(capsys, error, status, words):
    assert run_command(raising(error)) == status
    written = capsys.readouterr()
    assert words in written.err
    assert written.err.count("\n") == 1
    assert written.out == ""


def test_success_and_own_statuses_pass_through():
    assert run_command(lambda arguments: None) == 0
    assert run_command(lambda arguments: 3) == 3
    assert run_command(lambda arguments: len(arguments), ["a", "b"]) == 2


def test_faults_in_our_own_code_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()))
