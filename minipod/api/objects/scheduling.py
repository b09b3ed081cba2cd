# SPDX-License-Identifier: GPL-3.0-or-later
"""What only a scheduler would read."""

from __future__ import annotations

from minipod.api.field import Tables, all_inert, all_refused

FIELDS: Tables = {
    "Affinity": all_inert("""
        nodeAffinity:NodeAffinity - Which nodes the pod may or should run on.
        podAffinity:PodAffinity - Which pods it should run near.
        podAntiAffinity:PodAntiAffinity - Which pods it should run away from.
        """),
    "NodeAffinity": all_inert("""
        preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm] - Nodes that are preferred,
            by weight.
        requiredDuringSchedulingIgnoredDuringExecution:NodeSelector - Nodes that it must run on.
        """),
    "PreferredSchedulingTerm": all_inert("""
        preference:NodeSelectorTerm - Which nodes.
        weight:int - How much that counts, 1 to 100.
        """),
    "NodeSelectorTerm": all_inert("""
        matchExpressions:[NodeSelectorRequirement] - What must hold for the node's labels.
        matchFields:[NodeSelectorRequirement] - What must hold for the node's fields.
        """),
    "NodeSelectorRequirement": all_inert("""
        key - The label or field.
        operator - In, NotIn, Exists, DoesNotExist, Gt or Lt.
        values:[str] - What it is compared with.
        """),
    "NodeSelector": all_inert("""
        nodeSelectorTerms:[NodeSelectorTerm] - Of which one must hold.
        """),
    "PodAffinity": all_inert("""
        preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm] - Pods whose nearness is
            preferred, by weight.
        requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm] - Pods that it must be near to.
        """),
    "WeightedPodAffinityTerm": all_inert("""
        podAffinityTerm:PodAffinityTerm - Which pods.
        weight:int - How much that counts, 1 to 100.
        """),
    "PodAffinityTerm": all_inert("""
        labelSelector:LabelSelector - Which pods, by their labels.
        matchLabelKeys:[str] - Labels of this pod whose values the other's must have.
        mismatchLabelKeys:[str] - Labels of this pod whose values the other's must not have.
        namespaceSelector:LabelSelector - In which namespaces, by their labels.
        namespaces:[str] - In which namespaces, by name.
        topologyKey - The label of nodes that says what is near.
        """),
    "PodAntiAffinity": all_inert("""
        preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm] - Pods whose distance is
            preferred, by weight.
        requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm] - Pods that it must not be near to.
        """),
    "EvictionResponder": all_inert("""
        name - Who is asked before the pod is evicted.
        priority:int - In which order.
        """),
    "PodSchedulingGate": all_inert("""
        name - The gate; while a pod has one it is not scheduled.
        """),
    "PodSchedulingGroup": all_inert("""
        podGroupName - The group of pods that is scheduled together.
        """),
    "Toleration": all_inert("""
        effect - NoSchedule, PreferNoSchedule or NoExecute; empty for all.
        key - The taint; empty for all.
        operator - Equal (the default), Exists, Lt or Gt.
        tolerationSeconds:int - How long a NoExecute taint is tolerated.
        value - The taint's value.
        """),
    "TopologySpreadConstraint": all_inert("""
        labelSelector:LabelSelector - Which pods are counted.
        matchLabelKeys:[str] - Labels of this pod whose values the counted ones must have.
        maxSkew:int - By how many pods the places may differ.
        minDomains:int - How many places there have to be.
        nodeAffinityPolicy - Whether nodes that the pod may not run on count: Honor or Ignore.
        nodeTaintsPolicy - Whether tainted nodes count: Honor or Ignore.
        topologyKey - The label of nodes that says what a place is.
        whenUnsatisfiable - DoNotSchedule or ScheduleAnyway.
        """),
    "PodResourceClaim": all_refused("""
        name - The name by which containers refer to it.
        resourceClaimName - An existing ResourceClaim.
        resourceClaimTemplateName - The template that one is made from.
        """),
}
