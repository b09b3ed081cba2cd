# SPDX-License-Identifier: GPL-3.0-or-later
# Everything a developer types. `make` alone lists it. As root, or as a user who may use sudo.

.DEFAULT_GOAL := help
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Old pips (Debian 12) build python-prctl, which has no pyproject.toml, in a way that needs a package "wheel".
export PIP_USE_PEP517 := 1

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
VENV := .venv
BUILD := .build
BIN := $(VENV)/bin
PREFIX ?= /opt/minipod
UNITS := /usr/local/lib/systemd/system

# `sudo make …` in one's own clone: what is made there is one's own all the same; otherwise it could not be renewed without sudo.
OWNER := $(filter-out root,$(if $(SUDO),,$(filter $(SUDO_USER),$(shell stat -c %U Makefile))))
OWNED := $(addprefix $(VENV)/.,made installed native dev) $(BUILD)/busybox.tar $(BUILD)/wheel sanitized docs lint format
ifneq ($(OWNER),)
$(OWNED): private SHELL := /usr/sbin/runuser
$(OWNED): private .SHELLFLAGS := --user $(OWNER) -- env HOME=$(shell getent passwd $(OWNER) | cut -d: -f6) /bin/bash -c
endif

# The first Python that is new enough; asked when needed, because `make setup` may be what installs it.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$p"; break; }; done)

# What a Debian or Ubuntu without anything lacks, to build, to run, to test.
BUILD_PACKAGES := gcc make libc6-dev linux-libc-dev libcap-dev musl-tools libpython3-dev python3-venv ca-certificates
RUN_PACKAGES := libseccomp2 nftables busybox-static
TEST_PACKAGES := docker-registry iproute2 mandoc openssl postgresql-client procps shellcheck strace util-linux
# make wheels: a cross compiler, the other architecture's headers, and what runs its programs here.
FOREIGN := $(if $(filter aarch64,$(shell uname -m)),x86-64,aarch64)
PACKAGING_PACKAGES := debian-archive-keyring gcc-$(FOREIGN)-linux-gnu mmdebstrap qemu-user-static
# tests/vm: a Debian in QEMU.
VM_PACKAGES := debian-archive-keyring e2fsprogs mmdebstrap openssh-client qemu-system-arm qemu-system-x86
# make vm-image: the same as a file for QEMU and Vagrant.
IMAGE_PACKAGES := qemu-utils

NATIVE_SOURCES := $(wildcard native/*.[ch]) native/Makefile minipod/native/_build.py

# A machine that has just been started may be at its own upgrades: these are waited for.
APT_OPTIONS := -y -qq --no-install-recommends -o DPkg::Lock::Timeout=900

# apt-get $(1): only those of $(1) that dpkg does not know as installed; on a set-up machine apt is not called. Its lists
# are fetched when they are missing or too old, which installing shows.
define install-packages
	@known=" $$(dpkg-query -W -f='$${db:Status-Abbrev}$${Package}\n' $(1) 2>/dev/null | sed -n 's/^.i.//p' | tr '\n' ' ')"; \
	missing=; for p in $(1); do [[ "$$known" == *" $$p "* ]] || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ] && ! command -v apt-get >/dev/null; then \
	  echo "not Debian or Ubuntu: make sure that there is what these packages hold:$$missing" >&2; \
	elif [ -n "$$missing" ]; then \
	  echo "installing:$$missing"; \
	  install="$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get $(APT_OPTIONS) install $$missing"; \
	  $$install </dev/null 2>/dev/null || { $(SUDO) apt-get update -qq; $$install </dev/null; }; \
	fi
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: packages $(VENV)/.installed $(VENV)/.native ## install what running needs (apt, .venv) and build; quick when done

.PHONY: dev
dev: setup $(VENV)/.dev

.PHONY: package-names
package-names:
	@echo $(BUILD_PACKAGES) $(RUN_PACKAGES) $(TEST_PACKAGES) $(VM_PACKAGES)

.PHONY: packages
packages:
	$(call install-packages,$(BUILD_PACKAGES) $(RUN_PACKAGES))

$(VENV)/.made: | packages
	@[ -n "$(PYTHON)" ] || { echo "no Python 3.11 or newer: install one, or say make PYTHON=…" >&2; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@touch $@

# What pyproject.toml lists under the keys $(1), as a file of requirements: pip has no word for it.
required = <($(BIN)/python -c 'import sys, tomllib; found = tomllib.load(open("pyproject.toml", "rb")); \
	[found := found[key] for key in sys.argv[1:]]; print(*found, sep="\n")' $(1))

# What building needs is in .venv as well, and pip is told to use that: it need not be fetched twice, and a changed C file
# needs no network. editable_mode=compat is a line in a .pth file; the import hook of the other modes costs every command 10 ms.
INSTALL_EDITABLE := install --quiet --no-build-isolation --config-settings editable_mode=compat --editable .

$(VENV)/.installed: pyproject.toml native/build_hook.py $(VENV)/.made
	@echo 'filling $(VENV)'
	@$(BIN)/python -m pip install --quiet --requirement $(call required,build-system requires)
	$(BIN)/python -m pip $(INSTALL_EDITABLE)
	@$(BIN)/python -m compileall -q minipod
	@touch $@ $(VENV)/.native

$(VENV)/.native: $(NATIVE_SOURCES) $(VENV)/.installed
	$(BIN)/python -m pip $(INSTALL_EDITABLE) --no-deps
	@$(BIN)/python -m compileall -q minipod
	@touch $@

# What tests, linters and packages need besides.
$(VENV)/.dev: $(VENV)/.installed
	@echo 'filling $(VENV) with what developing needs'
	@$(BIN)/python -m pip install --quiet --requirement $(call required,project optional-dependencies dev)
	@touch $@

$(BUILD)/busybox.tar: examples/busybox-image | $(VENV)/.installed
	@mkdir -p $(BUILD)
	$(BIN)/python examples/busybox-image $@

.PHONY: run
run: setup $(BUILD)/busybox.tar ## run examples/hello.yaml to its end
	$(SUDO) $(BIN)/minipod image load $(BUILD)/busybox.tar
	$(SUDO) $(BIN)/minipod run examples/hello.yaml

.PHONY: test-setup
test-setup: dev sanitized ## what `make test` needs besides `make setup`
	$(call install-packages,$(TEST_PACKAGES) $(PACKAGING_PACKAGES) $(VM_PACKAGES))

.PHONY: sanitized
sanitized: setup
	@$(MAKE) -C native BUILDDIR=$(CURDIR)/$(BUILD)/native sanitize

# The variable is named because sudo clears the environment.
.PHONY: test
test: test-setup ## all tests, as root; ARGS='tests/unit -k name' for some, MINIPOD_TEST_STRICT=1 forbids skips
	$(SUDO) env MINIPOD_TEST_STRICT=$(MINIPOD_TEST_STRICT) $(BIN)/python -m pytest $(ARGS)

.PHONY: test-vm
test-vm: test-setup ## all of tests/vm: with files of tests/root in a machine, and the two commands in bare ones
	$(SUDO) env MINIPOD_TEST_STRICT=$(MINIPOD_TEST_STRICT) MINIPOD_TEST_VM_ALL=1 \
	  $(BIN)/python -m pytest tests/vm tests/packaging/test_foreign_machine.py $(ARGS)

# A virtual machine of RELEASE, from packages: for QEMU, and a box for Vagrant.
RELEASE ?= trixie
.PHONY: vm-image
vm-image: setup ## build a virtual machine with minipod set up in it; RELEASE=bookworm, trixie or noble
	$(call install-packages,$(VM_PACKAGES) $(IMAGE_PACKAGES))
	$(SUDO) $(BIN)/python -m tests.vm.box $(RELEASE)

# MACHINE is one of vagrant/Vagrantfile's; "local" has the box of `make vm-image`, and downloads nothing.
# /dev/kvm may be there and not work, so it is tried.
MACHINE ?= debian13
.PHONY: test-vagrant
test-vagrant: vagrant-there $(if $(filter local,$(MACHINE)),vm-image) ## tests/root and tests/e2e in a Vagrant machine; MACHINE=debian12, ubuntu2404, local
	@set -e; name=$(MACHINE); if [ $$name = local ]; then \
	  name=minipod-$(RELEASE); \
	  export MINIPOD_VAGRANT_BOX=$(CURDIR)/$(BUILD)/vm-image/$$name.box VAGRANT_DEFAULT_PROVIDER=libvirt; \
	  export MINIPOD_VAGRANT_DRIVER="$$($(SUDO) $(BIN)/python -m tests.vm.box $(RELEASE) --driver)"; \
	fi; \
	cd vagrant; \
	vagrant up $$name || { echo "no machine: docs/vm.md tells what Vagrant needs;" \
	  "with MACHINE=local nothing is downloaded" >&2; exit 1; }; \
	vagrant rsync $$name; \
	vagrant ssh $$name -c "cd minipod && make test ARGS='$(or $(ARGS),tests/root tests/e2e)' \
	  MINIPOD_TEST_STRICT=$(MINIPOD_TEST_STRICT)"

# Before a box is built, which takes minutes; who has no box to download may still have VirtualBox, so that is not looked for.
.PHONY: vagrant-there
vagrant-there:
	@command -v vagrant >/dev/null || { echo "there is no vagrant: docs/vm.md tells what to install" >&2; exit 1; }
	@[ $(MACHINE) != local ] || said=$$(virsh --connect qemu:///system list 2>&1) || { echo "$$said" >&2; \
	  echo "libvirt does not answer: docs/vm.md tells what to install, to start, and who may use it" >&2; exit 1; }

.PHONY: lint
lint: test-setup ## ruff, mypy, clang-format: they must have nothing to say
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(MAKE) -C native CLANG_FORMAT=$(CURDIR)/$(BIN)/clang-format format-check

.PHONY: format
format: test-setup ## let the formatters have their way
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	@$(MAKE) -C native CLANG_FORMAT=$(CURDIR)/$(BIN)/clang-format format

.PHONY: docs
docs: setup ## write docs/pod-spec.md from the declarations of the fields, docs/labs from the labs
	$(BIN)/python -m minipod.api.reference >docs/pod-spec.md.new
	mv docs/pod-spec.md.new docs/pod-spec.md
	$(BIN)/python -m minipod.lab.pages docs/labs

.PHONY: bench
bench: dev ## how long the command line, a pod and a pull take
	@$(BIN)/python -m compileall -q minipod
	$(SUDO) $(BIN)/python -m tests.bench

.PHONY: wheels
wheels: dev ## the source distribution and wheels for x86_64 and aarch64, into dist/
	$(call install-packages,$(PACKAGING_PACKAGES))
	$(BIN)/python -m native.packaging.wheels dist

.PHONY: deb
deb: dev ## a package for Debian 12, 13 and Ubuntu 24.04, of this machine's architecture, into dist/
	$(BIN)/python -m native.packaging.deb dist

# minipod and all that it needs, and the unit that says where these will be.
.PHONY: $(BUILD)/wheel
$(BUILD)/wheel: | packages
	@[ -n "$(PYTHON)" ] || { echo "no Python 3.11 or newer: install one, or say make PYTHON=…" >&2; exit 1; }
	rm -rf $@ $@-venv
	$(PYTHON) -m venv $@-venv
	$@-venv/bin/python -m pip wheel --quiet --wheel-dir $@ .
	sed 's,/opt/minipod,$(PREFIX),' minipod/agent/minipod-agent.service >$@/minipod-agent.service

# An agent that a command of the clone has started has a transient unit of the same name: pods outlive it.
.PHONY: install
install: packages $(BUILD)/wheel ## install to PREFIX (/opt/minipod), with a link, manual and completions in /usr/local
	$(SUDO) $(PYTHON) -m venv $(PREFIX)
	$(SUDO) $(PREFIX)/bin/python -m pip install --quiet --force-reinstall \
	  --no-index --find-links $(BUILD)/wheel minipod
	$(SUDO) ln -sfn $(PREFIX)/bin/minipod /usr/local/bin/minipod
	cd $(PREFIX)/share && find . -type f | $(SUDO) xargs cp --parents --target-directory=/usr/local/share
	$(SUDO) install -D -m 0644 -t $(UNITS) $(BUILD)/wheel/minipod-agent.service minipod/agent/minipod-agent.socket
	[ ! -e /run/systemd/transient/minipod-agent.service ] || $(SUDO) systemctl stop minipod-agent
	[ ! -d /run/systemd/system ] || $(SUDO) systemctl daemon-reload

.PHONY: uninstall
uninstall: ## undo `make install`; pods, images and logs stay
	[ ! -d $(PREFIX)/share ] || (cd $(PREFIX)/share && find . -type f | (cd /usr/local/share && $(SUDO) xargs rm -f))
	$(SUDO) rm -rf $(PREFIX) $(UNITS)/minipod-agent.service $(UNITS)/minipod-agent.socket
	[ "$$(readlink /usr/local/bin/minipod)" != $(PREFIX)/bin/minipod ] || $(SUDO) rm /usr/local/bin/minipod

.PHONY: clean
clean: ## remove all that building and testing made, .venv too
	$(SUDO) rm -rf $(VENV) $(BUILD) build dist *.egg-info minipod/native/bin minipod/native/_core.*.so \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis
	$(SUDO) find . -name __pycache__ -type d -prune -exec rm -rf {} +
