# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the Debian package for this machine's architecture: one file for Debian 12, 13 and Ubuntu 24.04.

    python -m native.packaging.deb dist

minipod lies in ``/usr/lib/minipod``, a virtual environment that serves whichever Python 3 the release has. In it are
those of minipod's dependencies that a release lacks or has too old; the others are Debian's packages. Compiled ones are
there once for each Python, which finds its own by the file's name.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shutil
import sys
import tempfile
import tomllib
from email.utils import formatdate
from pathlib import Path

from minipod import __version__
from native.packaging import cross, manpages, source, wheels

HERE = Path(__file__).parent
HOME = Path("usr/lib/minipod")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# In all three releases new enough: the packages that debian/control names.
FROM_DEBIAN = {"cffi", "h2", "python-prctl", "pyyaml"}
# What the others need themselves; typer's rich, which takes longer to load than all else, is never used.
INDIRECT = ("annotated-doc", "shellingham", "typing-extensions")
PROGRAM = f"""#!/{HOME}/bin/python -I
from minipod.cli.main import entry

entry()
"""
SETTINGS = """home = /usr/bin
include-system-site-packages = true
"""


def main() -> None:
    """Build it in the directory that the command line names."""
    parser = argparse.ArgumentParser(description="build the Debian package")
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    os.umask(0o022)
    print(build(asked.out))


def build(out: Path, wheel: Path | None = None) -> Path:
    """Build the package in *out*, from *wheel* or from the sources; return its path."""
    (arch,) = (arch for arch in cross.ARCHITECTURES.values() if arch.is_ours)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="minipod-deb-") as scratch:
        made = wheel or wheels.build(Path(scratch, "dist"), [arch.name])[-1]
        tree = Path(scratch, "tree")
        packages = _python(tree, arch, made, Path(scratch))
        _system(tree, Path(scratch))
        _documents(tree, packages)
        _control(tree, arch, made)
        _one_date(tree)
        package = out / f"minipod_{__version__}_{arch.debian}.deb"
        environment = {"SOURCE_DATE_EPOCH": str(source.date())}
        source.run(
            *("dpkg-deb", "--root-owner-group", "--build", "-Zxz", tree, package),
            environment=environment,
        )
    return package


def requirements() -> list[str]:
    """Return what goes into the package of what pyproject.toml demands, for pip."""
    project = tomllib.loads((source.TOP / "pyproject.toml").read_text())["project"]
    names = {text: re.split(r"[^\w.-]", text)[0].lower() for text in project["dependencies"]}
    return [text for text, name in names.items() if name not in FROM_DEBIAN] + list(INDIRECT)


def _python(tree: Path, arch: cross.Architecture, wheel: Path, scratch: Path) -> list[Path]:
    """Fill the virtual environment; return the descriptions of the packages in it."""
    site = tree / HOME / "site-packages"
    platforms = [f"--platform=manylinux_2_{n}_{arch.name}" for n in range(17, cross.LIBC + 1)]
    for python in PYTHONS:
        target = scratch / python
        wanted = [text for text in requirements() if _is_for(text, python)]
        # Without the index's word on what they need: that is INDIRECT, or Debian's.
        command = (
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"),
            *("--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp"),
            *(f"--python-version={python}", f"--abi=cp{python.replace('.', '')}"),
            *("--abi=abi3", "--abi=none", f"--platform=manylinux2014_{arch.name}", *platforms),
            *("--target", str(target), *wanted, str(wheel)),
        )
        source.run(*command)
        for rubbish in ("bin", "share"):
            shutil.rmtree(target / rubbish, ignore_errors=True)
        shutil.copytree(target, site, dirs_exist_ok=True)
        lib = tree / HOME / f"lib/python{python}"
        lib.mkdir(parents=True)
        (lib / "site-packages").symlink_to("../../site-packages")
    for library in site.rglob("*.so"):
        source.run("strip", "--strip-unneeded", library)
    for module in site.rglob("*.py"):
        if (text := module.read_bytes()).startswith(b"#!"):  # none of them is a program here
            module.write_bytes(b"#" + text[2:])
    programs = tree / HOME / "bin"
    programs.mkdir()
    for name in ("python", "python3"):
        (programs / name).symlink_to("../../../bin/python3")
    (programs / "minipod").write_text(PROGRAM)
    (programs / "minipod").chmod(0o755)
    (tree / HOME / "pyvenv.cfg").write_text(SETTINGS)
    described = sorted(site.glob("*.dist-info"))
    for directory in described:
        for name in ("RECORD", "WHEEL", "INSTALLER", "REQUESTED", "direct_url.json"):
            (directory / name).unlink(missing_ok=True)
    return described


def _is_for(requirement: str, python: str) -> bool:
    from packaging.requirements import Requirement

    marker = Requirement(requirement).marker
    return marker is None or marker.evaluate({"python_version": python})


def _system(tree: Path, scratch: Path) -> None:
    """Put the program, units, manual pages and completions where Debian has them."""
    (tree / "usr/bin").mkdir()
    (tree / "usr/bin/minipod").symlink_to("../lib/minipod/bin/minipod")
    units = tree / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    for unit in sorted((source.TOP / "minipod/agent").glob("minipod-agent.s*")):
        text = unit.read_text().replace("/opt/minipod", f"/{HOME}")
        (units / unit.name).write_text(text)
    manpages.write(scratch)
    shutil.copytree(scratch / "share", tree / "usr/share", dirs_exist_ok=True)
    (tree / "usr/share/zsh/site-functions").rename(tree / "usr/share/zsh/vendor-completions")
    for page in (tree / "usr/share/man/man1").iterdir():
        _compress(page)


def _documents(tree: Path, packages: list[Path]) -> None:
    top, documents = source.TOP, tree / "usr/share/doc/minipod"
    documents.mkdir(parents=True)
    shutil.copy(top / "README.md", documents)
    for name in ("docs", "examples"):
        shutil.copytree(top / name, documents / name, ignore=shutil.ignore_patterns("__pycache__"))
    musl = (top / "native/LICENSE.musl").read_text().split("\n\n", 2)[2]
    text = (HERE / "debian/copyright").read_text()
    vendored = "".join(map(_stanza, (p for p in packages if not p.name.startswith("minipod-"))))
    (documents / "copyright").write_text(text.format(vendored=vendored, musl=_indented(musl)))
    entry = (
        f"minipod ({__version__}) unstable; urgency=medium\n\n  * The package of this release.\n\n"
        f" -- {_field('Maintainer')}  {formatdate(source.date())}\n"
    )
    (documents / "changelog").write_text(entry)
    _compress(documents / "changelog")


def _stanza(directory: Path) -> str:
    """Return what debian/copyright says of one of the packages that are not ours."""
    texts = [p for p in sorted(directory.rglob("*")) if "LICEN" in p.name.upper() and p.is_file()]
    metadata = (directory / "METADATA").read_text().partition("\n\n")[0]
    name, version = directory.name.removesuffix(".dist-info").rsplit("-", 1)
    found = re.search(r"^License(?:-Expression)?: (.+)$", metadata, re.MULTILINE)
    licence = found[1] if found else "see below"
    author = re.search(r"^Author(?:-email)?: (.+)$", metadata, re.MULTILINE)
    words = "\n".join(_licence(path.read_text()) for path in texts)
    module = name.removeprefix("backports_").lower()
    return "\n".join(
        (
            f"\nFiles: usr/lib/minipod/site-packages/{module}*",
            f"Copyright: {author[1] if author else 'its authors'}",
            f"License: {name}-{version}",
            _indented(f"{licence}\n\n{words}"),
            "",
        )
    )


def _licence(text: str) -> str:
    """Return a licence's text, or where it is when Debian has it once for all packages."""
    common = {"GNU GENERAL PUBLIC LICENSE": "GPL-2", "Apache License": "Apache-2.0"}
    for title, name in common.items():
        if title in text and len(text) > 5000:
            return f"The complete text is in /usr/share/common-licenses/{name}."
    return text


def _indented(text: str) -> str:
    return "\n".join(f" {line.rstrip() or '.'}" for line in text.strip().splitlines())


def _field(name: str) -> str:
    control = (HERE / "debian/control").read_text()
    return next(x.partition(": ")[2] for x in control.splitlines() if x.startswith(f"{name}:"))


def _control(tree: Path, arch: cross.Architecture, wheel: Path) -> None:
    # What the wheel's name says of the C library: manylinux_2_17 (PEP 600).
    libc = ".".join(wheel.name.partition("manylinux_")[2].split("_")[:2])
    overrides = tree / "usr/share/lintian/overrides"
    overrides.mkdir(parents=True)
    shutil.copy(HERE / "debian/lintian-overrides", overrides / "minipod")
    directory = tree / "DEBIAN"
    size = sum(path.lstat().st_size for path in tree.rglob("*")) >> 10
    directory.mkdir()
    text = (HERE / "debian/control").read_text()
    filled = text.format(version=__version__, architecture=arch.debian, size=size, libc=libc)
    (directory / "control").write_text(filled)
    for name in ("postinst", "prerm", "postrm"):
        shutil.copy(HERE / "debian" / name, directory)
        (directory / name).chmod(0o755)


def _compress(path: Path) -> None:
    with path.with_name(f"{path.name}.gz").open("wb") as file:
        file.write(gzip.compress(path.read_bytes(), 9, mtime=source.date()))
    path.unlink()


def _one_date(tree: Path) -> None:
    """Give all files the sources' date and modes that do not depend on who builds."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (source.date(), source.date()), follow_symlinks=False)


if __name__ == "__main__":
    main()
