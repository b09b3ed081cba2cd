# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done around a container's life: hooks, probes, and rules for its restart."""

from __future__ import annotations

from minipod.api.field import Tables, all_refused

FIELDS: Tables = {
    "Lifecycle": all_refused("postStart:LifecycleHandler preStop:LifecycleHandler stopSignal"),
    "LifecycleHandler": all_refused(
        "exec:ExecAction httpGet:HTTPGetAction sleep:SleepAction tcpSocket:TCPSocketAction"
    ),
    "ExecAction": all_refused("command:[str]"),
    "HTTPGetAction": all_refused("host httpHeaders:[HTTPHeader] path port:object protocol scheme"),
    "HTTPHeader": all_refused("name value"),
    "SleepAction": all_refused("seconds:int"),
    "TCPSocketAction": all_refused("host port:object"),
    "Probe": all_refused(
        "exec:ExecAction failureThreshold:int grpc:GRPCAction httpGet:HTTPGetAction "
        "initialDelaySeconds:int periodSeconds:int successThreshold:int tcpSocket:TCPSocketAction "
        "terminationGracePeriodSeconds:int timeoutSeconds:int"
    ),
    "GRPCAction": all_refused("mode port:int service"),
    "ContainerRestartRule": all_refused("action exitCodes:ContainerRestartRuleOnExitCodes"),
    "ContainerRestartRuleOnExitCodes": all_refused("operator values:[int]"),
}
