"""The suite's own guest (`tests.guests`) as a virtual machine of a real cloud: its container disk, its manifest, and its console.

image = push_guest(registry)
cloud.apply(guest_machine(namespace, image, "#cloud-config\nruncmd: [[touch, /run/done]]\n"))
assert console(cloud, namespace, "guest", "hostname") == "guest\n"
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from pilvi.kube import load_kubeconfig
from tests.e2e.cloud import CloudUnderTest
from tests.guests import guest_image
from tests.guests.guest import REFERENCE
from tests.images.registry import FakeRegistry
from tests.virtctl import Virtctl, VirtctlError

__all__ = ["GUEST_BOOT_S", "ask_console", "console", "guest_machine", "hang_up", "push_guest"]

GUEST_BOOT_S = 120.0
"""Twenty times what a boot takes without hardware virtualisation on two idle cores."""
_PROMPT = re.compile(r"\w+@[\w.-]+:\S*[#$] ")
_AGAIN_S = 2.0
_HANG_UP_S = 0.25
T = TypeVar("T")


def push_guest(registry: FakeRegistry) -> str:
    """Put the guest's container disk into the registry; the reference that manifests name it by."""
    name, _, tag = REFERENCE.partition(":")
    layout = guest_image().container_disk
    manifest = _blob(layout, json.loads((layout / "index.json").read_bytes())["manifests"][0])
    return registry.add(name, tag, *(_blob(layout, layer) for layer in json.loads(manifest)["layers"]))


def _blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    algorithm, _, digest = str(descriptor["digest"]).partition(":")
    return (layout / "blobs" / algorithm / digest).read_bytes()


def guest_machine(
    namespace: str, image: str, user_data: str = "#cloud-config\n", *, name: str = "guest", memory: str = "192Mi", **spec: Any
) -> dict[str, Any]:
    """A VirtualMachine that boots the guest from its container disk, with the seed on a second disk; `spec` are fields of its instance."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "runStrategy": "Always",
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "domain": {
                        "memory": {"guest": memory},
                        "devices": {
                            "disks": [{"name": each, "disk": {"bus": "virtio"}} for each in ("root", "seed")],
                            "interfaces": [{"name": "default", "masquerade": {}}],
                            "rng": {},
                        },
                    },
                    "networks": [{"name": "default", "pod": {}}],
                    "terminationGracePeriodSeconds": 10,
                    "volumes": [
                        {"name": "root", "containerDisk": {"image": image}},
                        {"name": "seed", "cloudInitNoCloud": {"userData": user_data}},
                    ],
                    **spec,
                },
            },
        },
    }


def console(cloud: CloudUnderTest, namespace: str, name: str, command: str, *, timeout_s: float = GUEST_BOOT_S) -> str:
    """What a command prints in root's shell on the guest's serial console; waits for the machine and its guest to be there.

    The shell lives on between calls: a later one finds the folder and variables that an earlier one has left.
    """
    return ask_console(cloud.kubeconfig(), namespace, name, command, timeout_s=timeout_s)


def ask_console(kubeconfig: Path, namespace: str, name: str, command: str, *, timeout_s: float = GUEST_BOOT_S) -> str:
    """The same for a cloud of which only the kubeconfig is known."""
    return asyncio.run(hang_up(_converse(kubeconfig, namespace, name, command, timeout_s)))


async def hang_up(talk: Awaitable[T]) -> T:
    """What `talk` returns, when its connections have ended too: over TLS that takes a word from the other side."""
    try:
        return await talk
    finally:
        await asyncio.sleep(_HANG_UP_S)


async def _converse(kubeconfig: Path, namespace: str, name: str, command: str, timeout_s: float) -> str:
    async with asyncio.timeout(timeout_s), Virtctl.connect(load_kubeconfig(kubeconfig), namespace) as virtctl:
        while True:
            try:
                async with virtctl.console(name) as stream:
                    return await _ask(stream, command)
            except (VirtctlError, ConnectionError, aiohttp.ClientError):  # it does not run yet, or has just ended
                await asyncio.sleep(0.5)


async def _ask(stream: aiohttp.ClientWebSocketResponse, command: str) -> str:
    seen = ""
    while _PROMPT.search(seen.rpartition("\n")[2]) is None:
        await stream.send_bytes(b"\n")
        seen += await _read(stream, _AGAIN_S)
    # The marks are not in the echo of what was typed, which the shell breaks at the terminal's width.
    await stream.send_bytes(f"echo begin-of-''it; {command}; echo end-of-''it\n".encode())
    seen = ""
    while (found := re.search(r"(?s)begin-of-it\n(.*?)end-of-it\n", seen)) is None:
        seen += await _read(stream, None)
    return found[1]


async def _read(stream: aiohttp.ClientWebSocketResponse, timeout_s: float | None) -> str:
    """What comes next; nothing when nothing comes in time. Raises ConnectionError at the end."""
    try:
        message = await stream.receive(timeout_s)
    except TimeoutError:
        return ""
    if message.type is not aiohttp.WSMsgType.BINARY:
        raise ConnectionError("the console has ended")
    return bytes(message.data).decode(errors="replace").replace("\r", "")
