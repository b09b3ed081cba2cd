# SPDX-License-Identifier: GPL-3.0-or-later
"""minipod runs Kubernetes Pods on one Linux machine, straight on the kernel's namespaces."""

__version__ = "0.1.0"
