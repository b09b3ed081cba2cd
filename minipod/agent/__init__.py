# SPDX-License-Identifier: GPL-3.0-or-later
"""The node agent: one process, the only writer of state, behind a unix socket."""
