# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports point downward only, and the command line starts light: the architecture, as a test."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]

# Each may import those of a lower number; those of one number do not know each other.
LAYERS = {
    "__main__": 8,
    "cli": 7,
    "lab": 6,
    "graph": 1,
    "agent": 6,
    "pods": 5,
    "runtime": 4,
    "network": 3,
    "images": 3,
    "plan": 2,
    "api": 1,
    "native": 1,
    "config": 0,
    "errors": -1,
    "kinds": -1,
    "suffix": -1,
    "durations": 0,
    "transactions": 0,
    "jsonpath": 0,
    "": -2,  # minipod/__init__.py: the version
}
# The bottom of the packages knows the errors, but no instance.
FORBIDDEN = {("api", "config"), ("native", "config")}

# What a command may import before it knows which command it is: typer, and what typer brings along or costs nothing.
CLI_MAY_IMPORT = {"typer"} | {
    *(
        [
            "__future__",
            "_signal",
            "_socket",
            "abc",
            "argparse",
            "array",
            "ast",
            "base64",
            "collections",
            "contextlib",
            "copy",
            "dataclasses",
            "datetime",
            "enum",
            "errno",
        ]
    ),
    *(
        [
            "fcntl",
            "gc",
            "importlib",
            "functools",
            "inspect",
            "io",
            "itertools",
            "json",
            "math",
            "operator",
            "os",
            "pathlib",
            "re",
            "select",
            "shlex",
            "shutil",
            "signal",
        ]
    ),
    *(
        [
            "socket",
            "stat",
            "string",
            "struct",
            "sys",
            "termios",
            "textwrap",
            "time",
            "tty",
            "types",
            "typing",
        ]
    ),
}
CLI_MUST_NOT_LOAD = (
    *(
        "asyncio",
        "cffi",
        "ctypes",
        "http",
        "isal",
        "msgspec",
        "multiprocessing",
        "prctl",
        "pyroute2",
    ),
    *("pyseccomp", "rich", "sqlite3", "ssl", "tarfile", "tomllib", "urllib.request", "yaml"),
    *(
        f"minipod.{name}"
        for name in ("agent", "api", "images", "native", "network", "plan", "pods", "runtime")
    ),
)


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement.

    Attributes:
        where: file and line.
        package: the package of minipod that the file is in.
        module: the full name of what is imported.
        top_level: whether it runs when the module is loaded.
    """

    where: str
    package: str
    module: str
    top_level: bool

    @property
    def target(self) -> str | None:
        """The package of minipod that is imported, or ``None``."""
        first, _, rest = self.module.partition(".")
        return rest.split(".")[0] if first == "minipod" else None


def imports(top: Path) -> Iterator[Import]:
    """Yield every import below *top*/minipod, those inside functions and for type checkers too."""
    for path in sorted((top / "minipod").rglob("*.py")):
        parts = path.relative_to(top).with_suffix("").parts
        package = parts[1] if parts[1] != "__init__" else ""
        tree = ast.parse(path.read_bytes(), str(path))
        at_load = set(_run_at_load(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                where = f"{path.relative_to(top)}:{node.lineno}"
                for module in _modules(node, parts):
                    yield Import(where, package, module, node in at_load)


def _run_at_load(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements that run when a module is loaded: not those of functions, nor under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _run_at_load(child)


def _modules(node: ast.Import | ast.ImportFrom, parts: tuple[str, ...]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        # "from . import x" in minipod/a/b.py: the package is minipod.a, and so it is in minipod/a/__init__.py.
        base = ".".join((*parts[: len(parts) - node.level], *([base] if base else [])))
    if (
        base == "minipod"
    ):  # "from minipod import agent" imports a package, "from minipod import __version__" does not
        return [
            f"minipod.{alias.name}" if alias.name in LAYERS else "minipod" for alias in node.names
        ]
    return [base]


def upward(found: Iterator[Import]) -> list[str]:
    """Return the imports that do not point downward."""
    bad = []
    for item in found:
        if item.target is None or item.target == item.package:
            continue
        if item.package not in LAYERS or item.target not in LAYERS:
            bad.append(f"{item.where}: {item.module}: a package that the layers do not know")
        elif (
            LAYERS[item.target] >= LAYERS[item.package] or (item.package, item.target) in FORBIDDEN
        ):
            bad.append(f"{item.where}: {item.package} imports {item.module}")
    return bad


def heavy(found: Iterator[Import]) -> list[str]:
    """Return what ``cli`` imports at load that a command can do without."""
    bad = []
    for item in found:
        if item.package not in ("cli", "__main__") or not item.top_level:
            continue
        allowed = (
            item.target in ("", "cli", "errors", "config", "kinds", "suffix")
            if item.target is not None
            else item.module.split(".")[0] in CLI_MAY_IMPORT
        )
        if not allowed:
            bad.append(f"{item.where}: {item.module}: import it in the function that needs it")
    return bad


def foreign(found: Iterator[Import]) -> list[str]:
    """Return what the ground floor imports from outside the standard library."""
    return [
        f"{item.where}: {item.module}"
        for item in found
        if item.package in ("", "errors", "config", "kinds", "suffix", "jsonpath", "transactions")
        and item.target is None
        and item.module.split(".")[0] not in sys.stdlib_module_names
    ]


def test_imports_point_downward() -> None:
    assert upward(imports(TOP)) == []


def test_the_command_line_imports_nothing_heavy_at_load() -> None:
    assert heavy(imports(TOP)) == []


def test_the_ground_floor_needs_the_standard_library_only() -> None:
    assert foreign(imports(TOP)) == []


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    # typer's own weight is typer's; only what comes on top of it is ours.
    program = (
        "import sys, typer; before = set(sys.modules); import minipod.cli.main; "
        "print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TOP)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint(CLI_MUST_NOT_LOAD)


@pytest.mark.parametrize(
    ("path", "source", "check", "complaint"),
    [
        ("api/pod.py", "from minipod.plan import steps", upward, "api imports minipod.plan"),
        ("api/pod.py", "import minipod.native", upward, "api imports minipod.native"),
        ("api/pod.py", "from minipod import config", upward, "api imports minipod.config"),
        (
            "images/store.py",
            "def f():\n    from ..network import bridge",
            upward,
            "images imports minipod.network",
        ),
        ("errors.py", "import minipod.config", upward, "errors imports minipod.config"),
        ("plan/x.py", "from minipod.toys import y", upward, "do not know"),
        ("cli/main.py", "import asyncio", heavy, "import it in the function"),
        (
            "cli/main.py",
            "try:\n    import minipod.agent.api\nexcept OSError:\n    pass",
            heavy,
            "import it in",
        ),
        ("config.py", "import msgspec", foreign, "msgspec"),
    ],
)
def test_a_bad_import_is_seen(
    tmp_path: Path, path: str, source: str, check: object, complaint: str
) -> None:
    file = tmp_path / "minipod" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    assert callable(check)
    (line,) = check(imports(tmp_path))
    assert complaint in line
    assert line.startswith(f"minipod/{path}:")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("agent/main.py", "from minipod.pods import worker"),
        (
            "cli/run.py",
            "import os\nfrom minipod import __version__\nfrom minipod.errors import NotFound",
        ),
        ("cli/run.py", "def run():\n    import asyncio\n    from minipod.plan import render"),
        ("plan/steps.py", "from . import render\nfrom minipod.api import objects"),
    ],
)
def test_a_good_import_is_not(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / "minipod" / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert [
        *upward(imports(tmp_path)),
        *heavy(imports(tmp_path)),
        *foreign(imports(tmp_path)),
    ] == []
