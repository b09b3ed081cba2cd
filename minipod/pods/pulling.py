# SPDX-License-Identifier: GPL-3.0-or-later
"""Gets the images that a pod needs, by their pull policies, with a kubelet's reasons and events.

Sources: Kubernetes, "Images"; the kubelet's image manager (pkg/kubelet/images), whose words these are.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

from minipod.api import Secret, contents
from minipod.errors import MinipodError, NotFound, UsageError
from minipod.images import Image, is_pullable, normalize_reference
from minipod.pods import resolve
from minipod.pods.core import PodCore

NEVER = "ErrImageNeverPull"
FAILED = "ErrImagePull"
BACK_OFF = "ImagePullBackOff"
INVALID = "InvalidImageName"
REASONS = (NEVER, FAILED, BACK_OFF, INVALID)

_ID = re.compile(r"(sha256:)?[0-9a-f]{64}")


class NoImage(MinipodError):
    """An image is not there; *waiting* is the reason in a container's status, *what* the message."""

    def __init__(self, waiting: str, what: str) -> None:
        super().__init__(what)
        self.waiting = waiting


async def get_image(core: PodCore, reference: str, policy: str, container: str = "") -> Image:
    """Return the image of a reference, from the store or from its registry, as *policy* says.

    That it cannot be had is for the caller to tell, see :func:`tell`.

    What a registry cannot have (``localhost/app``, an image's id) is only looked for in the store.

    Args:
        core: the pod.
        reference: the image's name.
        policy: Always, IfNotPresent or Never.
        container: whose image it is, for the events; "" for the pod's.

    Raises:
        NoImage: it cannot be had now.
    """
    if (image := at_hand(core, reference, policy)) is not None:
        present = f"Container image {json.dumps(reference)} already present on machine"
        core.event("Normal", "Pulled", present, container)
        return image
    core.event("Normal", "Pulling", f"Pulling image {json.dumps(reference)}", container)
    began = time.monotonic()
    try:
        image = await core.tools.puller.pull(reference, _auths(core))
    except MinipodError as error:
        raise NoImage(FAILED, str(error)) from error
    took = f"{time.monotonic() - began:.3f}s"
    words = (
        f"Successfully pulled image {json.dumps(reference)} in {took} ({took} including waiting)"
    )
    core.event("Normal", "Pulled", f"{words}. Image size: {image.size} bytes.", container)
    return image


def at_hand(core: PodCore, reference: str, policy: str) -> Image | None:
    """Return the image if the store's is what is wanted; None when a registry has to be asked.

    Raises:
        NoImage: it is not there, and no registry is asked.
    """
    try:
        normalize_reference(reference)
    except UsageError as error:
        if not _ID.fullmatch(reference):
            raise NoImage(
                INVALID, f'Failed to apply default image tag "{reference}": {error}'
            ) from error
    asks = policy != "Never" and is_pullable(reference)
    if policy == "Always" and asks:
        return None
    try:
        return resolve.find_reference(core.tools.images, reference)
    except NotFound as error:
        if asks:
            return None
        if policy == "Never":
            words = f'Container image "{reference}" is not present with pull policy of Never'
            raise NoImage(NEVER, words) from error
        raise NoImage(FAILED, str(error)) from error
    except MinipodError as error:  # damaged
        if asks:
            return None
        raise NoImage(FAILED, str(error)) from error


def tell(core: PodCore, reference: str, error: NoImage, container: str = "") -> None:
    """Say in an event why an image is not there."""
    match error.waiting:
        case "ErrImageNeverPull":
            core.event("Warning", NEVER, error.what, container)
        case "InvalidImageName":
            core.event("Warning", "InspectFailed", error.what, container)
        case "ImagePullBackOff":
            core.event("Normal", "BackOff", back_off_words(reference), container)
        case _:
            words = f"Failed to pull image {json.dumps(reference)}: {error.what}"
            core.event("Warning", "Failed", words, container)


def back_off_words(reference: str) -> str:
    """Return what is said while the next pull is waited for."""
    return f"Back-off pulling image {json.dumps(reference)}"


def _auths(core: PodCore) -> list[dict[str, Any]]:
    """Return what the pod's ``imagePullSecrets`` hold, as Docker's config file; an event says which do not."""
    found, missing = [], []
    for wanted in core.pod.spec.image_pull_secrets:
        secret = core.tools.objects.get("Secret", core.pod.metadata.namespace, wanted.name)
        if not isinstance(secret, Secret):
            missing.append(wanted.name)
            continue
        try:
            document = _document(contents(secret))
        except (ValueError, RecursionError, UsageError):
            document = None
        if document is not None:
            found.append(document)
    if missing:
        words = f"Unable to retrieve some image pull secrets ({', '.join(missing)}); "
        words += "attempting to pull the image may not succeed."
        core.event("Warning", "FailedToRetrieveImagePullSecret", words)
    return found


def _document(values: dict[str, bytes]) -> dict[str, Any] | None:
    if data := values.get(".dockerconfigjson"):
        document = json.loads(data)
    elif data := values.get(".dockercfg"):
        document = {"auths": json.loads(data)}
    else:
        return None
    return document if isinstance(document, dict) else None
