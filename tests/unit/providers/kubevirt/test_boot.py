"""Kernels, images in use, and what firmware and TPM remember: what an instance names, and the files that come of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError
from pilvi.host.qemu.installed import UefiFiles
from pilvi.host.qemu.spec import QemuSpec, Uefi
from pilvi.images import ImageStore, Pulls
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.instance.keeper import find_keeper, is_persistent
from pilvi.providers.kubevirt.instance.scope import Scope
from pilvi.providers.kubevirt.instance.volumes.images import ContainerDisks
from pilvi.providers.kubevirt.instance.volumes.kernel import KernelImage, find_kernel
from pilvi.providers.kubevirt.instance.volumes.named import image_references, pull_secrets
from pilvi.providers.kubevirt.instance.volumes.ready import VolumeNotReady
from pilvi.providers.kubevirt.machines.qemu.drives import MachineFiles
from pilvi.providers.kubevirt.machines.qemu.offer import HostOffer
from pilvi.providers.kubevirt.machines.qemu.state import has_tpm, link_shared, prepare_state
from pilvi.providers.kubevirt.machines.volumes import BootFiles
from tests.images.registry import make_layer, serve_registry
from tests.unit.providers.kubevirt.objects import make_vm, make_vmi
from tests.unit.providers.kubevirt.test_qemu_machine import machine_spec, plan


def boots(**boot: Any) -> JsonObject:
    return {"domain": {"firmware": {"kernelBoot": boot}}}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, None),
        ({"domain": None}, None),
        (boots(container={"image": "a", "kernelPath": "/k"}), KernelImage("a", ("/k",))),
        (
            boots(
                kernelArgs="quiet",
                container={"image": "a", "kernelPath": "/k", "initrdPath": "/i", "imagePullPolicy": "Never", "imagePullSecret": "s"},
            ),
            KernelImage("a", ("/k", "/i"), "quiet", "Never", "s"),
        ),
    ],
)
def test_the_kernel_that_is_named(spec: JsonObject, wanted: KernelImage | None) -> None:
    assert find_kernel(spec) == wanted


@pytest.mark.parametrize(
    ("boot", "words"), [({}, "names no image"), ({"kernelArgs": "x"}, "names no image"), ({"container": {"image": "a"}}, "names no kernel")]
)
def test_what_names_no_kernel(boot: JsonObject, words: str) -> None:
    with pytest.raises(UserError, match=words):
        find_kernel(boots(**boot))


def test_the_images_of_an_instance() -> None:
    spec = boots(container={"image": "quay.io/k:1", "imagePullSecret": "two"})
    spec["volumes"] = [{"name": "a", "containerDisk": {"image": "debian", "imagePullSecret": "one"}}, {"name": "b", "emptyDisk": {}}]
    spec["volumes"].append({"name": "c", "containerDisk": {"image": "No Image"}})
    assert [str(reference) for reference in image_references(spec)] == ["docker.io/library/debian:latest", "quay.io/k:1"]
    assert pull_secrets(spec) == {"one", "two"}


async def test_a_kernel_comes_from_its_registry(tmp_path: Path) -> None:
    class NoSecrets:
        secrets: dict[Key, JsonObject] = {}

    async with serve_registry() as registry:
        image = registry.add("boot", "1", make_layer({"k": b"kernel", "i": b"initrd"}))
        pulls = Pulls(ImageStore(tmp_path))
        disks = ContainerDisks(pulls, NoSecrets())  # type: ignore[arg-type]
        scope = Scope({**make_vmi(), "spec": boots(kernelArgs="quiet", container={"image": image, "kernelPath": "/k"})}, None, ())
        task = asyncio.create_task(pulls.run())
        with pytest.raises(VolumeNotReady) as waiting:
            disks.resolve_kernel(scope)
        assert waiting.value.reason == "ContainerCreating"

        def found() -> BootFiles | None:
            try:
                return disks.resolve_kernel(scope)
            except VolumeNotReady:
                return None

        await wait_for(found, 10, "the kernel")
        kernel = found()
        assert kernel is not None
        assert (kernel.kernel.read_bytes(), kernel.initrd, kernel.arguments) == (b"kernel", None, "quiet")
        scope.vmi["spec"]["domain"]["firmware"]["kernelBoot"]["container"]["kernelPath"] = "/other"
        with pytest.raises(VolumeNotReady):
            disks.resolve_kernel(scope)
        await wait_for(lambda: _reason(disks, scope) == "ErrImagePull", 10, "the refusal")
        task.cancel()


def _reason(disks: ContainerDisks, scope: Scope) -> str:
    with pytest.raises(VolumeNotReady) as raised:
        disks.resolve_kernel(scope)
    return raised.value.reason


@pytest.mark.parametrize(
    ("domain", "wanted"),
    [
        ({}, False),
        ({"devices": {"tpm": {}}}, False),
        ({"devices": {"tpm": {"persistent": True}}}, True),
        ({"devices": {"tpm": {"persistent": True, "enabled": False}}}, False),
        ({"firmware": {"bootloader": {"efi": {"persistent": True}}}}, True),
        ({"firmware": {"bootloader": {"efi": {}}}}, False),
    ],
)
def test_what_is_persistent(domain: JsonObject, wanted: bool) -> None:
    assert is_persistent({"domain": domain}) is wanted


def test_state_is_kept_for_the_machine_of_that_name_only() -> None:
    vm, vmi = make_vm(), make_vmi()
    vmi["spec"]["domain"]["devices"] = {"tpm": {"persistent": True}}
    vmi["metadata"]["ownerReferences"] = []
    assert find_keeper(vmi, vm) == "", "without a machine it goes with the instance"
    reference = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": vm["metadata"]["name"], "controller": True}
    vmi["metadata"]["ownerReferences"] = [{**reference, "uid": vm["metadata"]["uid"]}]
    assert find_keeper(vmi, vm) == vm["metadata"]["uid"]
    for other in (None, {**vm, "metadata": {**vm["metadata"], "uid": "another"}}):
        with pytest.raises(UserError, match="is not there"):
            find_keeper(vmi, other)
    vmi["spec"]["domain"]["devices"] = {}
    assert find_keeper(vmi, None) == ""


@pytest.mark.parametrize(
    ("domain", "wanted"), [({}, False), ({"devices": {"tpm": {}}}, True), ({"devices": {"tpm": {"enabled": False}}}, False)]
)
def test_a_tpm(domain: JsonObject, wanted: bool) -> None:
    assert has_tpm(domain) is wanted
    assert (plan(**domain).tpm is not None) is wanted


def test_a_kernel_is_a_link_of_the_machine() -> None:
    files = MachineFiles(Path("/home/machines/u"))
    kernel = plan(kernel=BootFiles(Path("/images/k"), Path("/images/i"), "quiet"), volumes=()).kernel
    assert kernel is not None
    assert (kernel.kernel, kernel.initrd, kernel.arguments) == (files.kernel, files.initrd, "quiet")
    kernel = plan(kernel=BootFiles(Path("/images/k")), volumes=()).kernel
    assert kernel is not None
    assert kernel.initrd is None


class Place:
    """A machine's folder, and firmware to copy from."""

    def __init__(self, folder: Path) -> None:
        self.template = folder / "template"
        self.template.write_bytes(b"new")
        self.kept = folder / "kept" / "vm"
        self.files = MachineFiles(folder / "machine", self.kept)
        self.files.folder.mkdir()
        found = UefiFiles(folder / "code", self.template)
        self.offer = HostOffer("tcg", "", "pc-q35-7.2", uefi=found, uefi_secure=found)

    def machine(self, *, persistent: bool) -> QemuSpec:
        firmware = {"bootloader": {"efi": {"secureBoot": False, "persistent": persistent}}}
        return plan(self.offer, files=self.files, firmware=firmware)


@pytest.mark.parametrize("persistent", [False, True])
async def test_variables_are_made_once(tmp_path: Path, persistent: bool) -> None:
    place = Place(tmp_path)
    machine = place.machine(persistent=persistent)
    assert isinstance(machine.firmware, Uefi)
    path = machine.firmware.variables
    assert path.parent == (place.kept if persistent else place.files.folder)
    await prepare_state(machine, machine_spec(), place.files, place.offer)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)
    path.write_bytes(b"old")
    await prepare_state(machine, machine_spec(), place.files, place.offer)
    assert path.read_bytes() == b"old"


def test_without_a_machine_nothing_outlives_the_instance() -> None:
    files = MachineFiles(Path("/m"))
    assert files.variables(persistent=True).parent == files.tpm(persistent=True).parent == Path("/m")


async def test_shared_files_are_linked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "image", tmp_path / "base"
    source.write_bytes(b"one")
    source.chmod(0o444)
    await link_shared(source, target)
    assert source.stat().st_nlink == 2, "the store sees that it is in use"
    source.unlink()
    source.write_bytes(b"two")
    await link_shared(source, target)
    assert target.read_bytes() == b"one", "the name means another image by now"

    def refuse(*_paths: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    await link_shared(source, tmp_path / "far")
    assert ((tmp_path / "far").read_bytes(), (tmp_path / "far").stat().st_mode & 0o777) == (b"two", 0o444)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "far", "image"]
