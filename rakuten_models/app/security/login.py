"""Who may use the app: a file of users and passwords for `python app.py --auth-file FILE`.

One line a user, `name:password`, or better `name:scrypt:32768:8:1$salt$key` with the key in hexadecimal digits, the
form that Werkzeug writes. A line for the file, from a password that is asked for:

    python -m rakuten_models.app.security.login NAME >> users.txt
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import re
import secrets
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rakuten_models.cli import run_command
from rakuten_models.errors import RakutenModelsError

_HASHED = re.compile(r"scrypt:(\d{1,7}):(\d{1,3}):(\d{1,3})\$([^$]+)\$([0-9a-f]{32,256})")

# What a login may cost in memory; our own lines need 32 MB.
_MAX_MEMORY = 128 * 1024 * 1024

_COST = (32768, 8, 1)

_MAX_USERS = 1000

_MAX_FILE = 1_000_000

_MAX_PASSWORD = 1024


class LoginError(RakutenModelsError):
    """The file of users cannot be used."""


class _Key(NamedTuple):
    """A password's hash."""

    cost: tuple[int, int, int]
    salt: str
    key: bytes


def read_users(path: Path) -> Callable[[str, str], bool]:
    """What tells whether a name and a password belong together, from a file of users.

    Every answer takes the time of one scrypt, whether the name is known or not.

    Raises:
        LoginError: The file is not there, others may read it, or a line of it is wrong.
    """
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
        if not stat.S_ISREG(mode):
            raise LoginError("app.users_no_file", path=path)
        if sys.platform != "win32" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise LoginError("app.users_readable_by_others", path=path, mode=stat.S_IMODE(mode))
        if size > _MAX_FILE:
            raise LoginError("app.users_too_large", path=path, size=size, limit=_MAX_FILE)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise LoginError("app.users_missing", path=path) from error
    except UnicodeDecodeError as error:
        raise LoginError("app.users_not_utf_8", path=path) from error
    except OSError as error:
        raise LoginError("app.users_unreadable", path=path, reason=error.strerror) from error
    users = _users_of(path, text)
    nobody = _hashed(secrets.token_urlsafe(16))

    def belongs(name: str, password: str) -> bool:
        known = users.get(name, nobody)
        derived = _derived(password[:_MAX_PASSWORD], known.cost, known.salt, len(known.key))
        return hmac.compare_digest(derived, known.key) and known is not nobody

    return belongs


def line_of(name: str, password: str) -> str:
    """A user's line with a hashed password.

    Raises:
        LoginError: The name or the password cannot stand in a file of users.
    """
    if not name or ":" in name or name != name.strip() or name.startswith("#"):
        raise LoginError("app.user_name", name=name)
    if not password or "\n" in password:
        raise LoginError("app.password_empty")
    key = _hashed(password)
    return f"{name}:scrypt:{':'.join(map(str, key.cost))}${key.salt}${key.key.hex()}"


def _users_of(path: Path, text: str) -> dict[str, _Key]:
    users: dict[str, _Key] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        # The line itself is a secret and is not said.
        name, colon, password = line.partition(":")
        name = name.strip()
        if not colon or not name or not password:
            raise LoginError("app.users_line", line=number, path=path)
        if name in users:
            raise LoginError("app.user_twice", line=number, path=path)
        users[name] = _key_of(password, number, path)
        if len(users) > _MAX_USERS:
            raise LoginError("app.users_too_many", path=path, limit=_MAX_USERS)
    if not users:
        raise LoginError("app.users_empty", path=path)
    return users


def _key_of(password: str, line: int, path: Path) -> _Key:
    if not password.startswith("scrypt:"):
        return _hashed(password)
    found = _HASHED.fullmatch(password.strip())
    wrong = LoginError("app.users_line_hash", line=line, path=path)
    if found is None:
        raise wrong
    cost = (int(found[1]), int(found[2]), int(found[3]))
    key = _Key(cost, found[4], bytes.fromhex(found[5] if len(found[5]) % 2 == 0 else ""))
    try:
        _derived("", key.cost, key.salt, len(key.key))
    except ValueError as error:
        raise wrong from error
    return key


def _hashed(password: str) -> _Key:
    salt = secrets.token_urlsafe(16)
    return _Key(_COST, salt, _derived(password, _COST, salt, 64))


def _derived(password: str, cost: tuple[int, int, int], salt: str, length: int) -> bytes:
    n, r, p = cost
    secret = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt.encode(), n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=length)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask for a password and print a user's line."""
    names = sys.argv[1:] if arguments is None else list(arguments)
    if len(names) != 1 or names[0].startswith("-"):
        raise LoginError("app.one_user_name")
    password = getpass.getpass(f"Password of {names[0]}: ")
    if password != getpass.getpass("Once more: "):
        raise LoginError("app.passwords_differ")
    print(line_of(names[0], password))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
