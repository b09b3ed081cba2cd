# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for what ends a container, starts it again, and is kept of its end."""

from __future__ import annotations

from minipod.api.objects import Container, ContainerRestartRule
from minipod.api.problems import NOT_HONOURED, Report
from minipod.api.validation.rules import clean, one_of, under_proc
from minipod.api.yaml import shown

RESTART_POLICIES = ("Always", "OnFailure", "Never")
MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
MAX_RULES = 20
MAX_EXIT_CODES = 255


def check_restart(container: Container, path: str, report: Report) -> None:
    """Check a container's own restart policy and its rules."""
    if container.restart_policy is not None:
        one_of(report, f"{path}.restartPolicy", container.restart_policy, RESTART_POLICIES)
    rules = container.restart_policy_rules
    if rules and container.restart_policy is None:
        report.error(f"{path}.restartPolicy", "missing, and required with restartPolicyRules")
    if len(rules) > MAX_RULES:
        report.error(f"{path}.restartPolicyRules", f"{len(rules)} are more than {MAX_RULES}")
    for index, rule in enumerate(rules):
        _rule(rule, f"{path}.restartPolicyRules[{index}]", report)


def _rule(rule: ContainerRestartRule, path: str, report: Report) -> None:
    if not rule.action:
        report.error(f"{path}.action", "missing, and required: Restart")
    elif rule.action == "RestartAllContainers":
        what = "use Restart, each container is started again on its own"
        report.error(f"{path}.action", f"{rule.action} is {NOT_HONOURED}: {what}")
    else:
        one_of(report, f"{path}.action", rule.action, ("Restart",))
    if rule.exit_codes is None:
        report.error(f"{path}.exitCodes", "missing, and required")
        return
    codes = rule.exit_codes
    if not codes.operator:
        report.error(f"{path}.exitCodes.operator", "missing, and required: In or NotIn")
    else:
        one_of(report, f"{path}.exitCodes.operator", codes.operator, ("In", "NotIn"))
    where = f"{path}.exitCodes.values"
    if not codes.values:
        report.error(where, "missing, and required: at least one exit code")
    elif len(codes.values) > MAX_EXIT_CODES:
        report.error(where, f"{len(codes.values)} are more than {MAX_EXIT_CODES}")
    elif len(set(codes.values)) < len(codes.values):
        report.error(where, "an exit code is given twice")


def check_termination_message(container: Container, path: str, report: Report) -> None:
    """Check where the termination message is written, and what becomes of it.

    That the path is absolute and not under /proc is our own rule, as for every mount (HARDENING, 2); so is that it is
    not a volume's, which would hide the file.
    """
    place = container.termination_message_path
    where = f"{path}.terminationMessagePath"
    if not place.startswith("/") or clean(place) == "/" or ".." in place.split("/"):
        report.error(where, f"{shown(place)} must be an absolute path of a file, without ..")
    elif under_proc(place):
        report.error(where, "must not be on or under /proc")
    elif any(clean(mount.mount_path) == clean(place) for mount in container.volume_mounts):
        report.error(where, f"{shown(place)} is the mount path of a volume as well")
    policy = container.termination_message_policy
    one_of(report, f"{path}.terminationMessagePolicy", policy, MESSAGE_POLICIES)
