# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a container how it is: HTTP, TCP, gRPC, from the host, on the agent's event loop.

What answers is hostile input. Every client reads a bounded number of bytes, waits for nothing in a way that would
hold up anything else, and is ended by its caller's timeout. Words and rules are the kubelet's (``k8s.io/kubernetes/
pkg/probe``), because people and their scripts know them.
"""

from minipod.pods.probes.outcome import Outcome, Verdict, duration

__all__ = ["Outcome", "Verdict", "duration"]
