"""The one CDIConfig: what it says, with defaults, and its status.

Upstream's operator copies the spec from its CDI object; here a person writes the spec itself.
"""

from __future__ import annotations

from fractions import Fraction

import msgspec

from pilvi.api import JsonObject, Key
from pilvi.api.cdi import CDIConfig
from pilvi.api.cdi.config import CDIConfigSpec, FilesystemOverhead
from pilvi.api.cdi.upload import UPLOAD_PORT
from pilvi.api.object import decode
from pilvi.providers.cdi.kinds import CLASSES, CONFIGS
from pilvi.providers.claims import PROVISIONER
from pilvi.providers.platform import Platform
from pilvi.providers.status import write_status
from pilvi.runtime import Controller, Done, Result, Watch
from pilvi.transfer import Proxies

__all__ = ["CONFIG", "Configuration", "config_controller", "overheads"]

CONFIG = Key("", "config")

# A file system of another provisioner; upstream's default.
ELSEWHERE = "0.06"
# A Filesystem volume of ours is a folder with one file of exactly the claim's size.
OURS = "0"


class Configuration:
    """Reads the CDIConfig from the cache. One that is absent says nothing."""

    def __init__(self, platform: Platform) -> None:
        self._configs = platform.informers.get(CONFIGS)
        self._classes = platform.informers.get(CLASSES)

    def spec(self) -> CDIConfigSpec:
        """What it says."""
        found = self._configs.get(CONFIG)
        return decode(CDIConfig, found).spec if found is not None else CDIConfigSpec()

    def overhead(self, storage_class: str) -> Fraction:
        """The share, below 1, of a Filesystem volume of that class that its file system takes."""
        found = overheads(self.spec().filesystem_overhead, self._classes.list())
        return Fraction(found.storage_class.get(storage_class) or found.global_ or ELSEWHERE)

    def preallocates(self) -> bool:
        """Whether disks take their whole space at once unless they say otherwise."""
        return bool(self.spec().preallocation)

    def proxies(self) -> Proxies:
        """The proxies of imports: of the CDIConfig, else of the engine's environment."""
        proxy = self.spec().import_proxy
        if proxy is None:
            return Proxies.from_environment()
        return Proxies(proxy.http_proxy or "", proxy.https_proxy or "", proxy.no_proxy or "")


def overheads(given: FilesystemOverhead | None, classes: list[JsonObject]) -> FilesystemOverhead:
    """The shares in force: what is given, for our classes none else, 6 % for all others. Pure."""
    ours = {obj["metadata"]["name"]: OURS for obj in classes if obj.get("provisioner") == PROVISIONER}
    given = given or FilesystemOverhead()
    return FilesystemOverhead(global_=given.global_ or ELSEWHERE, storage_class={**ours, **given.storage_class})


def config_controller(platform: Platform) -> Controller:
    """The controller that makes the CDIConfig and keeps its status."""
    client, configs, classes = platform.client, platform.informers.get(CONFIGS), platform.informers.get(CLASSES)

    async def reconcile(key: Key) -> Result:
        if key != CONFIG:
            return Done()
        config = configs.get(CONFIG)
        if config is None:
            config = await client.create(CONFIGS, CONFIGS.new(CONFIG, spec={}))
        spec = decode(CDIConfig, config).spec
        platform.images.insecure = frozenset(spec.insecure_registries)
        status: JsonObject = {
            "filesystemOverhead": msgspec.to_builtins(overheads(spec.filesystem_overhead, classes.list())),
            "preallocation": bool(spec.preallocation),
            "uploadProxyURL": spec.upload_proxy_url_override or f"https://{platform.cloud.platform_address.ip}:{UPLOAD_PORT}",
        }
        if platform.authority:
            status["uploadProxyCA"] = platform.authority
        if spec.import_proxy is not None:
            status["importProxy"] = msgspec.to_builtins(spec.import_proxy)
        await write_status(client, CONFIGS, config, status, subresource=False)
        return Done()

    return Controller("cdiconfig", CONFIGS, reconcile, watches=[Watch(CLASSES, lambda _class: [CONFIG])], concurrency=1)
