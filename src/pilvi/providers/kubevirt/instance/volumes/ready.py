"""A volume that is not there yet."""

from __future__ import annotations

from pilvi.errors import Transient

__all__ = ["VolumeNotReady"]


class VolumeNotReady(Transient):
    """Somebody else is making it; `reason` is Kubernetes' word for that, such as `ImagePullBackOff` or `ContainerCreating`.

    `failed` says that it was tried and is tried again.
    """

    def __init__(self, reason: str, message: str, retry_after_s: float = 30.0, *, failed: bool = False) -> None:
        super().__init__(message, retry_after_s)
        self.reason = reason
        self.failed = failed
