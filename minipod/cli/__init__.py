# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: one file per verb, thin, without any logic of pods; the agent does the work.

Nothing heavier than typer is imported before the verb is known: start-up time is a feature.
"""
