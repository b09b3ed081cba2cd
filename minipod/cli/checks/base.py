# SPDX-License-Identifier: GPL-3.0-or-later
"""What all checks are made of: a name, a trial, a result; and how things are tried without a trace."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minipod.config import HELPER_ENV, Config
from minipod.errors import MinipodError

if TYPE_CHECKING:
    import subprocess

PATH = HELPER_ENV["PATH"]
_RELEASE = "/etc/os-release"  # os-release(5)


@dataclass(frozen=True, slots=True)
class Result:
    """What a check found.

    Attributes:
        level: ``ok``, ``warn`` (pods run, with less), ``fail`` (they do not), ``skip``.
        text: what was seen.
        remedy: what to do about it.
    """

    level: str
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A named trial; *run* may raise ``OSError`` or ``MinipodError`` for a failure with *remedy*."""

    name: str
    run: Callable[[Config], Result]
    remedy: str = ""
    needs_root: bool = True


def examine(check: Check, config: Config) -> Result:
    """Run *check*; whatever it raises is a failure, never the doctor's own."""
    try:
        return check.run(config)
    except MinipodError as error:
        return Result("fail", error.what, error.remedy or check.remedy)
    except (OSError, ImportError, ValueError, LookupError) as error:
        return Result("fail", str(error), check.remedy)


def in_child(trial: Callable[[], None]) -> None:
    """Run *trial* in a child process, which takes what it did to itself along.

    Raises:
        OSError: what the trial raised.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            trial()
        except OSError as error:
            os.write(write, json.dumps([error.errno, error.strerror or str(error)]).encode())
        except BaseException as error:
            os.write(write, json.dumps([0, f"{type(error).__name__}: {error}"]).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as said:
        data = said.read()
    os.waitpid(pid, 0)
    if data:
        number, words = json.loads(data)
        raise OSError(number, words)


def package(name: str, release: str | None = None) -> str:
    """Return the command that installs a package here; *release* is the text of os-release(5), None reads it."""
    if release is None:
        try:
            with open(_RELEASE) as file:
                release = file.read()
        except OSError:
            release = ""
    words = {
        word.strip('"')
        for line in release.splitlines()
        if line.startswith(("ID=", "ID_LIKE="))
        for word in line.partition("=")[2].strip('"').split()
    }
    if words & {"debian", "ubuntu"}:
        return f"sudo apt install {name}"
    if words & {"fedora", "rhel", "centos"}:
        return f"sudo dnf install {name}"
    return f"install the package {name}"


def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of the host's programs to its end; its exit code is the caller's to look at."""
    import subprocess

    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        cwd="/",
        env=HELPER_ENV,
        check=False,
    )
