# SPDX-License-Identifier: GPL-3.0-or-later
"""The field names and types below what minipod ignores or refuses, so that none of Kubernetes is unknown.

One string per type, ``name:type`` with ``str`` left out; ``[T]`` is a list, ``{T}`` a mapping from names. The
status is the table's: every field below an ignored one is ignored with it (and its types are still checked),
and so with the refused. The set is that of the Pod of Kubernetes 1.37; a test compares it.
"""

from __future__ import annotations

INERT: dict[str, str] = {
    "ManagedFieldsEntry": (
        "apiVersion fieldsType fieldsV1:object manager operation subresource time:time"
    ),
    "OwnerReference": "apiVersion blockOwnerDeletion:bool controller:bool kind name uid",
    "Affinity": "nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAntiAffinity",
    "NodeAffinity": (
        "preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm] "
        "requiredDuringSchedulingIgnoredDuringExecution:NodeSelector"
    ),
    "PreferredSchedulingTerm": "preference:NodeSelectorTerm weight:int",
    "NodeSelectorTerm": (
        "matchExpressions:[NodeSelectorRequirement] matchFields:[NodeSelectorRequirement]"
    ),
    "NodeSelectorRequirement": "key operator values:[str]",
    "NodeSelector": "nodeSelectorTerms:[NodeSelectorTerm]",
    "PodAffinity": (
        "preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm] "
        "requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]"
    ),
    "WeightedPodAffinityTerm": "podAffinityTerm:PodAffinityTerm weight:int",
    "PodAffinityTerm": (
        "labelSelector:LabelSelector matchLabelKeys:[str] mismatchLabelKeys:[str] "
        "namespaceSelector:LabelSelector namespaces:[str] topologyKey"
    ),
    "LabelSelector": "matchExpressions:[LabelSelectorRequirement] matchLabels:{str}",
    "LabelSelectorRequirement": "key operator values:[str]",
    "PodAntiAffinity": (
        "preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm] "
        "requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]"
    ),
    "EvictionResponder": "name priority:int",
    "PodSchedulingGate": "name",
    "PodSchedulingGroup": "podGroupName",
    "Toleration": "effect key operator tolerationSeconds:int value",
    "TopologySpreadConstraint": (
        "labelSelector:LabelSelector matchLabelKeys:[str] maxSkew:int minDomains:int "
        "nodeAffinityPolicy nodeTaintsPolicy topologyKey whenUnsatisfiable"
    ),
}
"""Scheduling and the bookkeeping of a cluster: accepted with a warning."""

REFUSED: dict[str, str] = {
    "EnvVarSource": (
        "configMapKeyRef:ConfigMapKeySelector fieldRef:ObjectFieldSelector "
        "fileKeyRef:FileKeySelector resourceFieldRef:ResourceFieldSelector "
        "secretKeyRef:SecretKeySelector"
    ),
    "ConfigMapKeySelector": "key name optional:bool",
    "ObjectFieldSelector": "apiVersion fieldPath",
    "FileKeySelector": "key optional:bool path volumeName",
    "ResourceFieldSelector": "containerName divisor resource",
    "SecretKeySelector": "key name optional:bool",
    "EnvFromSource": "configMapRef:ConfigMapEnvSource prefix secretRef:SecretEnvSource",
    "ConfigMapEnvSource": "name optional:bool",
    "SecretEnvSource": "name optional:bool",
    "Lifecycle": "postStart:LifecycleHandler preStop:LifecycleHandler stopSignal",
    "LifecycleHandler": (
        "exec:ExecAction httpGet:HTTPGetAction sleep:SleepAction tcpSocket:TCPSocketAction"
    ),
    "ExecAction": "command:[str]",
    "HTTPGetAction": "host httpHeaders:[HTTPHeader] path port:object protocol scheme",
    "HTTPHeader": "name value",
    "SleepAction": "seconds:int",
    "TCPSocketAction": "host port:object",
    "Probe": (
        "exec:ExecAction failureThreshold:int grpc:GRPCAction httpGet:HTTPGetAction "
        "initialDelaySeconds:int periodSeconds:int successThreshold:int "
        "tcpSocket:TCPSocketAction terminationGracePeriodSeconds:int timeoutSeconds:int"
    ),
    "GRPCAction": "mode port:int service",
    "ContainerResizePolicy": "resourceName restartPolicy",
    "CoreV1ResourceClaim": "name request",
    "ContainerRestartRule": "action exitCodes:ContainerRestartRuleOnExitCodes",
    "ContainerRestartRuleOnExitCodes": "operator values:[int]",
    "AppArmorProfile": "localhostProfile type",
    "Capabilities": "add:[str] drop:[str]",
    "SELinuxOptions": "level role type user",
    "SeccompProfile": "localhostProfile type",
    "WindowsSecurityContextOptions": (
        "gmsaCredentialSpec gmsaCredentialSpecName hostProcess:bool runAsUserName"
    ),
    "VolumeDevice": "devicePath name",
    "PodDNSConfig": "nameservers:[str] options:[PodDNSConfigOption] searches:[str]",
    "PodDNSConfigOption": "name value",
    "EphemeralContainer": (
        "args:[str] command:[str] env:[EnvVar] envFrom:[EnvFromSource] image imagePullPolicy "
        "lifecycle:Lifecycle livenessProbe:Probe name ports:[ContainerPort] "
        "readinessProbe:Probe resizePolicy:[ContainerResizePolicy] "
        "resources:ResourceRequirements restartPolicy restartPolicyRules:[ContainerRestartRule] "
        "securityContext:SecurityContext startupProbe:Probe stdin:bool stdinOnce:bool "
        "targetContainerName terminationMessagePath terminationMessagePolicy tty:bool "
        "volumeDevices:[VolumeDevice] volumeMounts:[VolumeMount] workingDir"
    ),
    "HostAlias": "hostnames:[str] ip",
    "LocalObjectReference": "name",
    "PodReadinessGate": "conditionType",
    "PodResourceClaim": "name resourceClaimName resourceClaimTemplateName",
    "Sysctl": "name value",
    "AWSElasticBlockStoreVolumeSource": "fsType partition:int readOnly:bool volumeID",
    "AzureDiskVolumeSource": "cachingMode diskName diskURI fsType kind readOnly:bool",
    "AzureFileVolumeSource": "readOnly:bool secretName shareName",
    "CephFSVolumeSource": (
        "monitors:[str] path readOnly:bool secretFile secretRef:LocalObjectReference user"
    ),
    "CinderVolumeSource": "fsType readOnly:bool secretRef:LocalObjectReference volumeID",
    "ConfigMapVolumeSource": "defaultMode:int defaultUser:int items:[KeyToPath] name optional:bool",
    "KeyToPath": "key mode:int path user:int",
    "CSIVolumeSource": (
        "driver fsType nodePublishSecretRef:LocalObjectReference readOnly:bool "
        "volumeAttributes:{str}"
    ),
    "DownwardAPIVolumeSource": "defaultMode:int defaultUser:int items:[DownwardAPIVolumeFile]",
    "DownwardAPIVolumeFile": (
        "fieldRef:ObjectFieldSelector mode:int path resourceFieldRef:ResourceFieldSelector user:int"
    ),
    "EphemeralVolumeSource": "volumeClaimTemplate:PersistentVolumeClaimTemplate",
    "PersistentVolumeClaimTemplate": "metadata:ObjectMeta spec:PersistentVolumeClaimSpec",
    "PersistentVolumeClaimSpec": (
        "accessModes:[str] dataSource:TypedLocalObjectReference "
        "dataSourceRef:TypedObjectReference resources:VolumeResourceRequirements "
        "selector:LabelSelector storageClassName volumeAttributesClassName volumeMode "
        "volumeName"
    ),
    "TypedLocalObjectReference": "apiGroup kind name",
    "TypedObjectReference": "apiGroup kind name namespace",
    "VolumeResourceRequirements": "limits:{str} requests:{str}",
    "FCVolumeSource": "fsType lun:int readOnly:bool targetWWNs:[str] wwids:[str]",
    "FlexVolumeSource": "driver fsType options:{str} readOnly:bool secretRef:LocalObjectReference",
    "FlockerVolumeSource": "datasetName datasetUUID",
    "GCEPersistentDiskVolumeSource": "fsType partition:int pdName readOnly:bool",
    "GitRepoVolumeSource": "directory repository revision",
    "GlusterfsVolumeSource": "endpoints path readOnly:bool",
    "ImageVolumeSource": "pullPolicy reference",
    "ISCSIVolumeSource": (
        "chapAuthDiscovery:bool chapAuthSession:bool fsType initiatorName iqn iscsiInterface "
        "lun:int portals:[str] readOnly:bool secretRef:LocalObjectReference targetPortal"
    ),
    "NFSVolumeSource": "path readOnly:bool server",
    "PersistentVolumeClaimVolumeSource": "claimName readOnly:bool",
    "PhotonPersistentDiskVolumeSource": "fsType pdID",
    "PortworxVolumeSource": "fsType readOnly:bool volumeID",
    "ProjectedVolumeSource": "defaultMode:int defaultUser:int sources:[VolumeProjection]",
    "VolumeProjection": (
        "clusterTrustBundle:ClusterTrustBundleProjection configMap:ConfigMapProjection "
        "downwardAPI:DownwardAPIProjection podCertificate:PodCertificateProjection "
        "secret:SecretProjection serviceAccountToken:ServiceAccountTokenProjection"
    ),
    "ClusterTrustBundleProjection": (
        "labelSelector:LabelSelector name optional:bool path signerName user:int"
    ),
    "ConfigMapProjection": "items:[KeyToPath] name optional:bool",
    "DownwardAPIProjection": "items:[DownwardAPIVolumeFile]",
    "PodCertificateProjection": (
        "certificateChainPath credentialBundlePath keyPath keyType maxExpirationSeconds:int "
        "signerName user:int userAnnotations:{str}"
    ),
    "SecretProjection": "items:[KeyToPath] name optional:bool",
    "ServiceAccountTokenProjection": "audience expirationSeconds:int path user:int",
    "QuobyteVolumeSource": "group readOnly:bool registry tenant user volume",
    "RBDVolumeSource": (
        "fsType image keyring monitors:[str] pool readOnly:bool secretRef:LocalObjectReference user"
    ),
    "ScaleIOVolumeSource": (
        "fsType gateway protectionDomain readOnly:bool secretRef:LocalObjectReference "
        "sslEnabled:bool storageMode storagePool system volumeName"
    ),
    "SecretVolumeSource": (
        "defaultMode:int defaultUser:int items:[KeyToPath] optional:bool secretName"
    ),
    "StorageOSVolumeSource": (
        "fsType readOnly:bool secretRef:LocalObjectReference volumeName volumeNamespace"
    ),
    "VsphereVirtualDiskVolumeSource": "fsType storagePolicyID storagePolicyName volumePath",
}
"""What minipod does not do."""
