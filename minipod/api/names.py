# SPDX-License-Identifier: GPL-3.0-or-later
"""The formats of names: what Kubernetes allows, as functions that return what is wrong, or ``""``.

The rules are those of ``k8s.io/apimachinery/pkg/util/validation`` and the RFCs it names (1035, 1123, 6335).
"""

from __future__ import annotations

import re

from minipod.api.yaml import shown

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_ENV_NAME = re.compile(r"[ -<>-~]+")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_PORT_NAME = re.compile(r"(?!.*--)(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?")

MAX_LABEL = 63
MAX_SUBDOMAIN = 253
MAX_PORT_NAME = 15


def dns_label(text: str) -> str:
    """Check an RFC 1123 label, as for containers, volumes, namespaces and hostnames."""
    if len(text) > MAX_LABEL:
        return f"{shown(text)} has {len(text)} characters, the limit is {MAX_LABEL}"
    if not _LABEL.fullmatch(text):
        return (
            f"{shown(text)} is not a DNS label: use a-z, 0-9 and -, "
            "with a letter or digit at the start and the end"
        )
    return ""


def dns_subdomain(text: str) -> str:
    """Check an RFC 1123 subdomain, as for the names of pods."""
    if len(text) > MAX_SUBDOMAIN:
        return f"{shown(text)} has {len(text)} characters, the limit is {MAX_SUBDOMAIN}"
    if not _SUBDOMAIN.fullmatch(text):
        return (
            f"{shown(text)} is not a DNS name: use a-z, 0-9, - and ., "
            "with a letter or digit at the start and the end of each part"
        )
    return ""


def qualified_name(text: str) -> str:
    """Check the key of a label or annotation: ``app`` or ``example.com/app``."""
    prefix, slash, name = text.rpartition("/")
    if slash and (wrong := dns_subdomain(prefix)):
        return f"the key's prefix {wrong}"
    if len(name) > MAX_LABEL:
        return f"the key {shown(name)} has {len(name)} characters, the limit is {MAX_LABEL}"
    if not _QUALIFIED.fullmatch(name):
        return (
            f"the key {shown(text)} is not a qualified name: use letters, digits, -, _ and ., "
            "with a letter or digit at the start and the end, and at most one prefix/"
        )
    return ""


def label_value(text: str) -> str:
    """Check the value of a label."""
    if len(text) > MAX_LABEL:
        return f"the value {shown(text)} has {len(text)} characters, the limit is {MAX_LABEL}"
    if text and not _QUALIFIED.fullmatch(text):
        return (
            f"the value {shown(text)} is not a label value: use letters, digits, -, _ and ., "
            "with a letter or digit at the start and the end"
        )
    return ""


def env_name(text: str) -> str:
    """Check the name of a variable: any printable ASCII except ``=`` (KEP-4369)."""
    if not _ENV_NAME.fullmatch(text):
        return f"{shown(text)} is not a variable name: use printable ASCII characters except ="
    return ""


def config_key(text: str) -> str:
    """Check a key of a ConfigMap or Secret, which becomes the name of a file (``IsConfigMapKey``)."""
    if len(text) > MAX_SUBDOMAIN:
        return f"the key {shown(text)} has {len(text)} characters, the limit is {MAX_SUBDOMAIN}"
    if not _CONFIG_KEY.fullmatch(text):
        return f"the key {shown(text)} is not valid: use letters, digits, -, _ and ."
    if text == "." or text.startswith(".."):
        return f"the key {shown(text)} must not be . or start with .."
    return ""


def port_name(text: str) -> str:
    """Check the name of a port (an IANA service name, RFC 6335 section 5.1)."""
    if len(text) > MAX_PORT_NAME:
        return f"{shown(text)} has {len(text)} characters, the limit is {MAX_PORT_NAME}"
    if not _PORT_NAME.fullmatch(text):
        return (
            f"{shown(text)} is not a port name: use a-z, 0-9 and single -, with at least one letter"
        )
    return ""
