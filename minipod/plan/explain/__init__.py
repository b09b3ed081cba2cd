# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan for those who want to understand it: every step with what it does, why, and where it comes from.

Nothing on the way of a pod to its start imports this.
"""

from __future__ import annotations

from minipod.plan.explain.document import ContainerPlan, PodPlan, document
from minipod.plan.explain.words import Words, words_of

__all__ = ["ContainerPlan", "PodPlan", "Words", "document", "words_of"]
