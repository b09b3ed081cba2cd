# SPDX-License-Identifier: GPL-3.0-or-later
"""Executes plans: shims, cgroups, filters, and the host side of every step."""
