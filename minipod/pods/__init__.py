# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kubelet does for a pod: its sandbox, its containers, their restarts, its status and its end."""
