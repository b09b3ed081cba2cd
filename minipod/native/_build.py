# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes the cffi module ``minipod.native._core`` to the build; never imported at run time."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

NATIVE = Path(__file__).resolve().parents[2] / "native"


def declarations(header: str) -> str:
    """Return the text of a C header as cffi reads it: without the preprocessor's conditionals and includes."""
    dropped = ("#if", "#endif", "#include", "#define MINIPOD_")
    return "\n".join(line for line in header.splitlines() if not line.startswith(dropped))


ffibuilder = FFI()
for name in ("wire.h", "bindings.h"):
    ffibuilder.cdef(declarations((NATIVE / name).read_text()))
ffibuilder.set_source(
    "minipod.native._core",
    '#include "wire.h"\n#include "bindings.h"\n',
    sources=["native/bindings.c", "native/enter.c", "native/seclude.c"],
    include_dirs=[str(NATIVE)],
    depends=["native/wire.h", "native/bindings.h", "native/sys.h"],
    extra_compile_args=["-D_GNU_SOURCE=1", "-Wall", "-Wextra", "-fstack-protector-strong"],
    extra_link_args=["-Wl,-z,relro,-z,now", "-Wl,-s"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
