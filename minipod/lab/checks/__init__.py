# SPDX-License-Identifier: GPL-3.0-or-later
"""The labs' checks, by subject; what a check is, ``minipod.lab.look`` tells."""
