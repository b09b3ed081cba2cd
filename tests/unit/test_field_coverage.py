# SPDX-License-Identifier: GPL-3.0-or-later
"""Every field that is honoured has a test that shows its effect in a real pod.

Such a test says so by ``@pytest.mark.field("Container.workingDir", …)``. The marks are read from the sources, so that
they count here without root and without the tests being run. What is compared is what the tables beside the types say.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from minipod.api.fields import Status, table, type_names

TESTS = Path(__file__).resolve().parents[1]
REAL = ("root", "e2e")
"""Where tests run pods."""
HELPERS = ("instance.py", "node.py", "e2e/user.py")
"""What makes pods for these tests, and so may name a field for them."""

_NFS = "takes a kernel with a client and a server of NFS; the mount that is asked for is in test_plan_nfs.py"
UNSHOWN: dict[str, str] = {
    "NFSVolumeSource.path": _NFS,
    "NFSVolumeSource.readOnly": _NFS,
    "PersistentVolumeSpec.mountOptions": _NFS,
    "PersistentVolumeSpec.nfs": _NFS,
    "Volume.nfs": _NFS,
}
"""Fields of which no test shows the effect, and why none can."""


def honoured() -> dict[str, str]:
    """Return the type of each honoured field, by ``Type.field``; without what says which kind an object is."""
    return {
        f"{type_name}.{name}": field.type.strip("[]{}")
        for type_name in type_names()
        for name, field in table(type_name).items()
        if field.status is Status.HONOURED and name not in ("apiVersion", "kind")
    }


def is_mark(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.field"


def marks_on_tests(tree: ast.Module) -> Iterator[ast.Call]:
    """Yield the marks that are on a test, on one of its parameters, or on all tests of the module."""
    for node in tree.body:
        held: list[ast.expr] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            held = node.decorator_list if node.name.startswith("test_") else []
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            held = [node.value]
        yield from (n for each in held for n in ast.walk(each) if isinstance(n, ast.Call))


@functools.cache
def names_in(file: str) -> frozenset[str]:
    """Return the words of all strings in a file, and the names of all arguments, but those of the marks."""
    tree = ast.parse((TESTS / file).read_text(), file)
    inside = {id(n) for mark in ast.walk(tree) if is_mark(mark) for n in ast.walk(mark)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.update(re.findall(r"\w+", node.value))
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
    return frozenset(found)


@functools.cache
def marked() -> dict[str, set[str]]:
    """Return in which files each field is marked."""
    found: dict[str, set[str]] = {}
    for path in (path for room in REAL for path in sorted((TESTS / room).glob("*.py"))):
        tree = ast.parse(path.read_text(), path)
        marks = [mark for mark in marks_on_tests(tree) if is_mark(mark)]
        assert len(marks) == sum(map(is_mark, ast.walk(tree))), f"{path}: a mark is on no test"
        for argument in (argument for mark in marks for argument in mark.args):
            assert isinstance(argument, ast.Constant), f"{path}:{argument.lineno}: not a literal"
            found.setdefault(str(argument.value), set()).add(str(path.relative_to(TESTS)))
    return found


def holders() -> set[str]:
    """Return the fields that merely hold others: they are shown when all of these are.

    Only where nothing else holds the same type: that a pod's ``resources`` work is not shown by a container's.
    """
    fields = honoured()
    uses = Counter(fields.values())
    return {name for name, type_ in fields.items() if type_ in type_names() and uses[type_] == 1}


def test_every_honoured_field_is_shown_in_a_real_pod() -> None:
    missing = sorted(honoured().keys() - holders() - marked().keys() - UNSHOWN.keys())
    assert not missing, (
        "no test in tests/root or tests/e2e shows the effect of these (mark it with pytest.mark.field):\n"
        + "\n".join(missing)
    )


def test_every_mark_names_an_honoured_field() -> None:
    unknown = {name: files for name, files in marked().items() if name not in honoured()}
    assert not unknown


def test_what_is_not_shown_is_so_for_a_reason() -> None:
    assert UNSHOWN.keys() <= honoured().keys()
    assert not UNSHOWN.keys() & marked().keys(), "shown after all"
    assert all(UNSHOWN.values())


def test_a_file_that_shows_a_field_names_it() -> None:
    helpers = set().union(*map(names_in, HELPERS))
    for name, files in marked().items():
        for file in files:
            assert name.split(".")[1] in names_in(file) | helpers, f"{file}: {name}"
