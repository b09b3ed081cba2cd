# SPDX-License-Identifier: GPL-3.0-or-later
"""What only a scheduler would read."""

from __future__ import annotations

from minipod.api.field import Tables, all_inert, all_refused

FIELDS: Tables = {
    "Affinity": all_inert(
        "nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAntiAffinity"
    ),
    "NodeAffinity": all_inert(
        "preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm] "
        "requiredDuringSchedulingIgnoredDuringExecution:NodeSelector"
    ),
    "PreferredSchedulingTerm": all_inert("preference:NodeSelectorTerm weight:int"),
    "NodeSelectorTerm": all_inert(
        "matchExpressions:[NodeSelectorRequirement] matchFields:[NodeSelectorRequirement]"
    ),
    "NodeSelectorRequirement": all_inert("key operator values:[str]"),
    "NodeSelector": all_inert("nodeSelectorTerms:[NodeSelectorTerm]"),
    "PodAffinity": all_inert(
        "preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm] "
        "requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]"
    ),
    "WeightedPodAffinityTerm": all_inert("podAffinityTerm:PodAffinityTerm weight:int"),
    "PodAffinityTerm": all_inert(
        "labelSelector:LabelSelector matchLabelKeys:[str] mismatchLabelKeys:[str] "
        "namespaceSelector:LabelSelector namespaces:[str] topologyKey"
    ),
    "PodAntiAffinity": all_inert(
        "preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm] "
        "requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]"
    ),
    "EvictionResponder": all_inert("name priority:int"),
    "PodSchedulingGate": all_inert("name"),
    "PodSchedulingGroup": all_inert("podGroupName"),
    "Toleration": all_inert("effect key operator tolerationSeconds:int value"),
    "TopologySpreadConstraint": all_inert(
        "labelSelector:LabelSelector matchLabelKeys:[str] maxSkew:int minDomains:int "
        "nodeAffinityPolicy nodeTaintsPolicy topologyKey whenUnsatisfiable"
    ),
    "PodResourceClaim": all_refused("name resourceClaimName resourceClaimTemplateName"),
}
