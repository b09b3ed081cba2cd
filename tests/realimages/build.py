# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes real images from Debian's packages: nginx, PostgreSQL, redis and python, each over one common layer.

They have the names, users, settings and first processes that those of Docker Hub have, because these are what people
run. A layer is what dpkg left in an overlay, as with a Dockerfile's ``RUN apt-get install``. All comes from a Debian
mirror, none of it from a registry. The result is an OCI layout in ``.build/images/<hash of what it is made from>/``
and is used again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isal import igzip

from minipod.images import documents
from minipod.images.builder import BuiltImage, Entry, File, layer_tar, oci_files
from minipod.images.documents import REF_NAME, Descriptor, digest_of, to_json
from minipod.images.platforms import host_platform
from tests.instance import TOP

PLACE = TOP / ".build" / "images"
HERE = Path(__file__).parent
SUITE = "bookworm"
MIRROR = os.environ.get("MINIPOD_TEST_MIRROR", "http://deb.debian.org/debian")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Nobody reads it here; LLVM compiles queries, and a server that does not find it goes without.
UNWANTED = (
    *(f"/usr/share/{name}/*" for name in ("doc", "i18n", "info", "locale", "zoneinfo")),
    *("*/bitcode/*", "*/libLLVM*", "*/libz3*"),
)


@dataclass(frozen=True)
class Recipe:
    """How an image is made over Debian.

    Attributes:
        tag: of the image; its name is the recipe's.
        packages: what is installed.
        before, after: shell commands in the image's root, before and after that.
        files: what lies in its last layer, by path; the names of scripts beside this module.
        config: how it is run.
    """

    tag: str
    packages: tuple[str, ...]
    before: str = "true"
    after: str = "true"
    files: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


BASE = "debian"
RECIPES = {
    "nginx": Recipe(
        "1.22",
        ("nginx-light",),
        after="ln -sf /dev/stdout /var/log/nginx/access.log; ln -sf /dev/stderr /var/log/nginx/error.log; "
        "mkdir /docker-entrypoint.d; "
        "echo '<title>Welcome to nginx!</title>' >/var/www/html/index.html",
        files={"docker-entrypoint.sh": "nginx.sh"},
        config={
            "Entrypoint": ["/docker-entrypoint.sh"],
            "Cmd": ["nginx", "-g", "daemon off;"],
            "Env": [f"PATH={PATH}", "NGINX_VERSION=1.22.1"],
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGQUIT",
        },
    ),
    "postgres": Recipe(
        "15",
        ("postgresql-15", "gosu"),
        before="groupadd -r -g 999 postgres; "
        "useradd -r -g postgres -u 999 -d /var/lib/postgresql -s /bin/bash postgres; "
        "mkdir -p /etc/postgresql-common; "
        "echo create_main_cluster = false >/etc/postgresql-common/createcluster.conf",
        after="sed -i \"s/^#listen_addresses = 'localhost'/listen_addresses = '*'/\" "
        "/usr/share/postgresql/15/postgresql.conf.sample; "
        "install -d -o postgres -g postgres -m 3777 /var/run/postgresql; "
        "install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data; "
        "mkdir /docker-entrypoint-initdb.d",
        files={"usr/local/bin/docker-entrypoint.sh": "postgres.sh"},
        config={
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["postgres"],
            "Env": [
                f"PATH={PATH}:/usr/lib/postgresql/15/bin",
                "LANG=C.UTF-8",
                "PG_MAJOR=15",
                "PGDATA=/var/lib/postgresql/data",
            ],
            "ExposedPorts": {"5432/tcp": {}},
            "StopSignal": "SIGINT",
            "Volumes": {"/var/lib/postgresql/data": {}},
        },
    ),
    "redis": Recipe(
        "7",
        ("redis-server",),
        before="groupadd -r -g 999 redis; useradd -r -g redis -u 999 redis",
        after="install -d -o redis -g redis /data",
        files={"usr/local/bin/docker-entrypoint.sh": "redis.sh"},
        config={
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["redis-server"],
            "Env": [f"PATH={PATH}", "REDIS_VERSION=7.0.15"],
            "ExposedPorts": {"6379/tcp": {}},
            "Volumes": {"/data": {}},
            "WorkingDir": "/data",
        },
    ),
    "python": Recipe(
        "3.11",
        ("python3-minimal", "libpython3-stdlib"),
        after="ln -s /usr/bin/python3 /usr/local/bin/python; useradd -m -u 1000 web",
        config={
            "Cmd": ["python3"],
            "Env": [f"PATH={PATH}", "LANG=C.UTF-8", "PYTHON_VERSION=3.11.2"],
        },
    ),
}
# In the root of an image: /run and apt's cache are not to be kept, and the lists are brought along.
INSTALL = """
mount -t overlay overlay -o lowerdir="$1/base",upperdir="$2/upper",workdir="$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs var/cache/apt
mount --bind "$1/lists" var/lib/apt/lists
shift 2
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot . sh -ec "$1"
before=$1 after=$2
shift 2
chroot . apt-get -qq -y -o Dpkg::Options::=--force-unsafe-io --no-install-recommends install "$@"
umount run
chroot . sh -ec "$after"
rm -f var/log/*.log var/log/apt/*
"""


def images() -> dict[str, BuiltImage]:
    """Return the images by ``name:tag``, built if they are not there yet; their blobs are read as they are used.

    Raises:
        AssertionError: a tool failed, with what it said.
    """
    parts = [SUITE.encode(), MIRROR.encode(), *(x.read_bytes() for x in sorted(HERE.glob("*.*")))]
    place = PLACE / hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            for old in PLACE.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            _build(place)
    return dict(_read(place))


@dataclass(frozen=True)
class _Blobs(Mapping[str, bytes]):
    """The blobs of an OCI layout by digest."""

    directory: Path

    def __getitem__(self, digest: str) -> bytes:
        return (self.directory / digest.removeprefix("sha256:")).read_bytes()

    def __iter__(self) -> Iterator[str]:
        return (f"sha256:{path.name}" for path in self.directory.iterdir())

    def __len__(self) -> int:
        return len(list(self.directory.iterdir()))


def _read(place: Path) -> Iterator[tuple[str, BuiltImage]]:
    blobs = _Blobs(place / "blobs/sha256")

    def descriptor(found: Any) -> Descriptor:
        return Descriptor(found["mediaType"], found["digest"], found["size"])

    for entry in json.loads((place / "index.json").read_bytes())["manifests"]:
        manifest = json.loads(blobs[entry["digest"]])
        config = json.loads(blobs[manifest["config"]["digest"]])
        yield (
            entry["annotations"][REF_NAME],
            BuiltImage(
                descriptor(entry),
                descriptor(manifest["config"]),
                tuple(map(descriptor, manifest["layers"])),
                tuple(config["rootfs"]["diff_ids"]),
                blobs,
            ),
        )


def _build(place: Path) -> None:
    # Not in /tmp, which may be small or mounted nodev.
    with tempfile.TemporaryDirectory(prefix="new-", dir=PLACE) as name:
        scratch, new = Path(name), Path(name, "new")
        _debian(scratch)
        with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
            base = pool.submit(_layer, scratch / "base")
            tops = {each: pool.submit(_application, scratch, each) for each in RECIPES}
        made = {f"{BASE}:12": _image([base.result()], {"Cmd": ["bash"], "Env": [f"PATH={PATH}"]})}
        for each, recipe in RECIPES.items():
            layers = [base.result(), *tops[each].result()]
            made[f"{each}:{recipe.tag}"] = _image(layers, recipe.config)
        (new / "blobs/sha256").mkdir(parents=True)
        for path, data in oci_files(made).items():
            (new / path).write_bytes(data)
        new.rename(place)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout[-8000:]}{done.stderr[-8000:]}"


def _debian(scratch: Path) -> None:
    """Make ``base``, the root of all images, and ``lists``, what apt knows of the mirror."""
    base = scratch / "base"
    _run(
        *("mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=apt"),
        "--aptopt=APT::Install-Recommends false",
        "--aptopt=Acquire::Languages none",
        # A mirror may be a snapshot of some age; signatures are checked all the same.
        "--aptopt=Acquire::Check-Valid-Until false",
        *(f"--dpkgopt=path-exclude={path}" for path in UNWANTED),
        "--skip=cleanup/apt/lists",
        *(SUITE, str(base), MIRROR),
    )
    lists = base / "var/lib/apt/lists"
    lists.rename(scratch / "lists")
    lists.mkdir()
    policy = base / "usr/sbin/policy-rc.d"  # packages start no services
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def _application(scratch: Path, name: str) -> list[bytes]:
    """Return the layers of an application, over the base."""
    recipe, own = RECIPES[name], scratch / name
    for part in ("upper", "work", "root"):
        (own / part).mkdir(parents=True)
    script: list[str | Path] = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "sh",
        "-ec",
        INSTALL,
        "sh",
        scratch,
        own,
    ]
    _run(*script, recipe.before, recipe.after, *recipe.packages)
    layers = [_layer(own / "upper")]
    files: dict[str, Entry] = {
        path: File((HERE / script).read_bytes(), mode=0o755)
        for path, script in recipe.files.items()
    }
    return [*layers, layer_tar(files)] if files else layers


def _layer(root: Path) -> bytes:
    """Return the files below *root* as a tar; what an overlay's upper directory hides becomes whiteouts."""
    for path in root.rglob("*"):
        if path.is_char_device() and path.lstat().st_rdev == 0:
            path.unlink()
            path.with_name(f".wh.{path.name}").touch()
    command = ["tar", "--create", "--sort=name", "--numeric-owner", "--one-file-system"]
    command += ["--exclude=./dev/*", "--exclude=./var/cache/*/*.bin", "--directory", str(root), "."]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def _image(tars: list[bytes], config: Mapping[str, Any]) -> BuiltImage:
    """Return an image of *tars*. Not the product's own, which compresses more slowly."""
    blobs: dict[str, bytes] = {}

    def blob(media_type: str, data: bytes) -> Descriptor:
        blobs[digest_of(data)] = data
        return Descriptor(media_type, digest_of(data), len(data))

    platform = host_platform()
    diff_ids = tuple(map(digest_of, tars))
    document = {
        "architecture": platform.architecture,
        "os": platform.os,
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
    }
    described = blob(documents.DOCKER_CONFIG, to_json(document))
    layers = [blob(f"{documents.DOCKER_LAYER}.gzip", igzip.compress(tar, 1)) for tar in tars]
    manifest = {
        "schemaVersion": 2,
        "mediaType": documents.DOCKER_MANIFEST,
        "config": described.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    head = blob(documents.DOCKER_MANIFEST, to_json(manifest))
    return BuiltImage(head, described, tuple(layers), diff_ids, blobs)
