# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that fill a virtual machine's root directory; :mod:`tests.vm.image` says which of them, in which order.

Everything comes from the release's archive (mmdebstrap) and from a Python package index (pip).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.vm.disk import run
from tests.vm.release import Release

TOP = Path(__file__).resolve().parent.parent.parent
GUEST_SERVER = Path(__file__).with_name("guest.py")
MACHINE_ID = "6d696e69706f642d766d000000000000"
CONSTRAINTS = ("pytest>=8.3", "pytest-asyncio>=1.0", "hypothesis>=6.100")
FROM_DEBIAN = "python-prctl"  # the index has its source only
CHECKOUT = "home/vagrant/minipod"
NOT_COPIED = (
    ".venv",
    ".build",
    ".git",
    ".vagrant",  # with keys of machines
    "build",
    "dist",
    "*.egg-info",
    "__pycache__",
    "*.so",
    "bin",
)
EXTRA_CERTIFICATES = Path("/usr/local/share/ca-certificates")

SYSTEM = "systemd-sysv dbus udev kmod procps apparmor"
# Essential packages are meant to be on any Debian; then minipod's own needs as in the Makefile; then the tests'; then
# what only the Debian package leaves to Debian.
TEST_PACKAGES = tuple(
    f"{SYSTEM} busybox-static python3 python3-prctl libseccomp2 nftables iproute2 strace"
    " python3-cffi-backend python3-h2 python3-yaml".split()
)
# What stands behind libpam-systemd and the like in a fresh machine matters to nobody here.
BARE_PACKAGES = tuple(
    f"{SYSTEM} apt busybox-static grub-pc-bin openssh-server sudo git systemd-resolved".split()
)
BOX_PACKAGES = ("rsync",)  # Vagrant's synced folder

GUEST_COMMAND = "/usr/bin/python3 -S /usr/local/lib/vm-guest.py"
GUEST_ENVIRONMENT = (
    "HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8"
)
SERVICE = f"""[Unit]
Description=runs the commands of the host
[Service]
ExecStart={GUEST_COMMAND}
Environment={GUEST_ENVIRONMENT}
KillMode=process
[Install]
WantedBy=multi-user.target
"""
NETWORK = "[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n"
# Known to everybody, and meant to be: Vagrant comes with the other half, and replaces it at the first start.
VAGRANT_KEY = (
    "ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8+v1I2YJ6oXevct"
    "1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUec"
    "p4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hruc"
    "XzcWyLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ== vagrant insecure public key\n"
)
# What would keep apt's lock, or work on the disk, in the midst of something else.
NEVER = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "man-db.timer",
)
# What a login, a laptop, a debugger or a long life would need; and Debian's own profiles, which take long to compile.
NOT_IN_TESTS = (
    "apparmor.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "getty.target",
    "proc-sys-fs-binfmt_misc.automount",
    "serial-getty@ttyS0.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-pstore.service",
    "systemd-logind.service",
    "systemd-timesyncd.service",
    "systemd-udev-trigger.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
)


def makefile_packages() -> tuple[str, ...]:
    """Return what ``make test-setup`` installs."""
    return tuple(run("make", "-C", TOP, "--silent", "package-names").split())


def ingredients(whole_project: bool) -> list[str]:
    """Return what goes into a disk by name and not by this module."""
    return [*wheels(), *(makefile_packages() if whole_project else ())]


def wheels() -> list[str]:
    """Return minipod's and the tests' dependencies; markers are for other Pythons than the guest's."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    own = [text.split(";")[0].strip() for text in project["dependencies"]]
    return [text for text in own if not text.startswith(FROM_DEBIAN)] + list(CONSTRAINTS)


def debian(
    release: Release, root: Path, packages: tuple[str, ...], *, variant: str = "essential"
) -> None:
    """Make *root* of the essential packages, a kernel, and *packages*.

    Args:
        release: the system.
        root: where; it does not exist yet.
        packages: by name.
        variant: mmdebstrap's; "extract" is without the essential packages, and executes nothing.

    Raises:
        AssertionError: mmdebstrap failed, with what it said.
    """
    paths = ("doc", "info", "locale", "man", "zoneinfo")
    with tempfile.TemporaryDirectory() as scratch:
        # Who unpacks, apt's own user or not, has to come to the keys.
        os.chmod(scratch, 0o755)
        run(
            # What it mounts is gone with it, even if it is killed, before anybody removes the directory.
            *("unshare", "--mount", "mmdebstrap", "--quiet"),
            "--mode=root",
            "--format=directory",
            f"--variant={variant}",
            f"--architectures={release.architecture}",
            f"--components={release.components}",
            f"--include={','.join(dict.fromkeys((release.kernel, *packages)))}",
            "--aptopt=APT::Install-Recommends false",
            "--aptopt=Acquire::Languages none",
            # A mirror may be a snapshot of some age; signatures are checked all the same.
            "--aptopt=Acquire::Check-Valid-Until false",
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in paths),
            *release.keyring(Path(scratch)),
            release.suite,
            str(root),
            release.mirror,
            INITRD="No",  # we make one ourselves (see the kernel's postinst)
        )


def python_packages(release: Release, root: Path) -> None:
    """Install minipod's and the tests' dependencies for the Python of the guest, by the pip of the host."""
    target = root / _packages(release)
    tags = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", target),
        *("--only-binary=:all:", "--implementation=cp", f"--python-version={release.python}"),
        *(f"--abi={abi}" for abi in (f"cp{release.python.replace('.', '')}", "abi3", "none")),
        *(f"--platform={tag}_{release.machine}" for tag in tags),
        *wheels(),
    )


def compile_python(release: Release, root: Path) -> None:
    """Compile them, by the Python of the guest."""
    run("chroot", root, "python3", "-m", "compileall", "-q", f"/{_packages(release)}")


def _packages(release: Release) -> str:
    return f"usr/local/lib/python{release.python}/dist-packages"


def names(root: Path, machine_id: str) -> None:
    """Write the host's name; an empty *machine_id* is made anew at each first boot."""
    (root / "etc/hostname").write_text("minipod-vm\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost minipod-vm\n::1 localhost\n")
    (root / "etc/machine-id").write_text(f"{machine_id}\n" if machine_id else "")


def serve_commands(root: Path) -> None:
    """Start :mod:`tests.vm.guest` at boot."""
    shutil.copy(GUEST_SERVER, root / "usr/local/lib/vm-guest.py")
    units = root / "etc/systemd/system"
    (units / "vm-guest.service").write_text(SERVICE)
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "vm-guest.service").symlink_to("/etc/systemd/system/vm-guest.service")
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")


def up_to_date(root: Path) -> None:
    """Tell systemd that its catalogues are those of the packages: it would make them anew at each first boot.

    (ConditionNeedsUpdate of systemd.unit(5): what counts is whether these files are older than /usr.)
    """
    for name in ("etc", "var"):
        (root / name / ".updated").touch()


def mask(root: Path, units: tuple[str, ...]) -> None:
    """Keep *units* from being started."""
    for name in units:
        path = root / "etc/systemd/system" / name
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/null")


def network(root: Path) -> None:
    """Let every Ethernet device ask for its address, as a cloud's or Vagrant's machine does."""
    (root / "etc/systemd/network/80-dhcp.network").write_text(NETWORK)
    run("chroot", root, "systemctl", "--quiet", "enable", "systemd-networkd", "systemd-resolved")
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.symlink_to("../run/systemd/resolve/stub-resolv.conf")


def user(root: Path) -> None:
    """Make the user whom Vagrant expects, with the password that it expects, whom sudo asks for none."""
    run("chroot", root, "useradd", "--create-home", "--shell=/bin/bash", "vagrant")
    run("chroot", root, "sh", "-c", "echo vagrant:vagrant | chpasswd")
    (root / "etc/sudoers.d/vagrant").write_text("vagrant ALL=(ALL) NOPASSWD: ALL\n")
    keys = root / "home/vagrant/.ssh/authorized_keys"
    keys.parent.mkdir(mode=0o700)
    keys.write_text(VAGRANT_KEY)
    # A name service that does not answer would make every login wait.
    (root / "etc/ssh/sshd_config.d/minipod.conf").write_text("UseDNS no\n")
    run("chroot", root, "chown", "-R", "vagrant:", "/home/vagrant/.ssh")


def certificates(root: Path) -> None:
    """Bring the authorities that this host believes besides Debian's: there may be a proxy between it and the world."""
    target = root / "usr/local/share/ca-certificates"
    target.mkdir(parents=True, exist_ok=True)
    for path in EXTRA_CERTIFICATES.glob("*.crt"):
        shutil.copy(path, target)
    if (root / "usr/sbin/update-ca-certificates").exists():
        run("chroot", root, "update-ca-certificates")


def project(root: Path) -> None:
    """Copy this checkout in and let its Makefile set it up, as its user would; the network is the host's meanwhile.

    Raises:
        AssertionError: make failed, with what it said.
    """
    checkout = root / CHECKOUT
    shutil.copytree(TOP, checkout, ignore=shutil.ignore_patterns(*NOT_COPIED))
    run("chroot", root, "chown", "-R", "vagrant:", f"/{CHECKOUT}")
    resolver = root / "run/systemd/resolve/stub-resolv.conf"
    resolver.parent.mkdir(parents=True)
    shutil.copy("/etc/resolv.conf", resolver)
    inside = f"exec make -C /{CHECKOUT} test-setup"
    try:
        # A pid namespace, whose end is the end of all that was started; and a /proc, which is gone with it.
        run(
            *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", "-euc", 'mount -t proc proc "$0/proc"; exec chroot "$0" "$@"', root),
            *("su", "--login", "vagrant", "--command", inside),
        )
    except AssertionError as error:
        raise AssertionError(f"setting up the project in the image: {error}") from None
    finally:
        shutil.rmtree(resolver.parent)
    caches = checkout.parent / ".cache"
    if caches.exists():
        shutil.rmtree(caches)
    for path in (root / "var/lib/apt/lists").glob("*_*"):
        path.unlink()
