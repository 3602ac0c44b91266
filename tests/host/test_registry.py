"""The registry's program itself: who may do what, what survives, what is refused. It runs on loopback, as a user of its own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest

from pilvi import kit
from pilvi.errors import Transient, UserError
from pilvi.images import Credentials, Endpoint, ImageStore, Reference, Registry, parse_reference
from pilvi.images.bundle import Bundle, make_manifest, read_bundle
from pilvi.images.push import Writer
from pilvi.images.wrap import disk_name, open_disk, wrap_files
from pilvi.lib.deadline import wait_for
from pilvi.node.container_disk import NodeDisks
from pilvi.node.reference import MANIFEST, NodeImage
from pilvi.pki import KeyPair, Usage, create_ca, issue
from tests.images.bootsector import boot_disk

USER = 65533
ME = Credentials("pilvi", "correct horse battery staple")
BOOT = parse_reference("pilvi.dev/team-a/boot:v1")


@dataclass
class Own:
    endpoint: Endpoint

    async def offer(self, reference: Reference) -> None:
        """Nothing but what was pushed."""


@dataclass
class Served:
    """A registry that runs."""

    folder: Path
    ca: KeyPair
    endpoint: Endpoint
    process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> None:
        binary = str(kit.get_binary("registry"))
        argv = [binary, f"--address=127.0.0.1:{self.endpoint.port}", f"--folder={self.folder}", *flags]
        log = (self.folder.parent / "registry.log").open("ab")
        with log:
            self.process = subprocess.Popen(argv, user=USER, group=USER, extra_groups=[], stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def certify(self) -> None:
        pair = issue(self.ca, "registry", Usage.SERVER, dns_names=("pilvi.dev",), addresses=(IPv4Address("127.0.0.1"),))
        for name, content in (("tls.key", pair.key), ("tls.crt", pair.certificate)):
            (self.folder / name).write_bytes(content)
            os.chown(self.folder / name, 0, USER)

    def set_password(self, password: str) -> None:
        (self.folder / "password").write_text(hashlib.sha256(password.encode()).hexdigest())
        os.chown(self.folder / "password", 0, USER)

    async def answers(self) -> None:
        def is_open() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.endpoint.port), 1):
                return True
            return False

        await wait_for(is_open, 20, "the registry to answer")

    def disk_bytes(self) -> int:
        return sum(path.stat().st_size for path in (self.folder / "data").rglob("data"))


@pytest.fixture
def registry() -> Iterator[Served]:
    # Not below pytest's own folder, which each run closes to others.
    with TemporaryDirectory(prefix="pilvi-registry-test-") as root:
        os.chmod(root, 0o711)  # noqa: S103 (the unit is somebody else)
        folder = Path(root) / "registry"
        (folder / "data").mkdir(parents=True)
        os.chown(folder / "data", USER, USER)
        served = _serve(folder)
        try:
            served.start("--idle=300ms")
            yield served
        finally:
            served.kill()


def _serve(folder: Path) -> Served:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ca = create_ca("cloud")
    served = Served(folder, ca, Endpoint("pilvi.dev", IPv4Address("127.0.0.1"), ca.certificate.decode(), port))
    served.certify()
    served.set_password(ME.password)
    return served


@asynccontextmanager
async def a_disk(folder: Path, word: str) -> AsyncIterator[Bundle]:
    path = folder / "boot.img"
    path.write_bytes(boot_disk(word))
    async with open_disk(path, folder) as disk:
        yield await wrap_files([{disk_name(path): disk}], {"made-by": "test"})


def basic(credentials: Credentials) -> dict[str, str]:
    return {"Authorization": f"Basic {credentials.basic}"}


def store_of(served: Served, folder: Path) -> ImageStore:
    store = ImageStore(folder)
    store.own = Own(served.endpoint)
    return store


async def push_disk(served: Served, folder: Path, word: str, credentials: Credentials = ME) -> str:
    async with a_disk(folder, word) as bundle, Writer(served.endpoint, credentials) as writer:
        return await writer.push(BOOT, bundle)


async def test_a_disk_that_was_pushed_is_pulled_by_everybody_and_survives(registry: Served, tmp_path: Path) -> None:
    await registry.answers()
    digest = await push_disk(registry, tmp_path, "hello")
    assert await push_disk(registry, tmp_path, "hello") == digest  # the same bytes again
    disk = await store_of(registry, tmp_path / "one").ensure(BOOT, "Always")
    assert (disk.digest, disk.format) == (digest, "qcow2")
    async with Writer(registry.endpoint, ME) as writer:
        (stored,) = await writer.list_images()
        assert (stored.reference, stored.digest, stored.annotations) == (BOOT, digest, {"made-by": "test"})
        await writer.tag(BOOT, "v2")
    registry.kill()
    registry.start()
    await registry.answers()
    again = await store_of(registry, tmp_path / "two").ensure(parse_reference("pilvi.dev/team-a/boot:v2"), "Always")
    assert again.path.read_bytes() == disk.path.read_bytes()


async def test_who_has_no_password_pulls_and_does_nothing_else(registry: Served, tmp_path: Path) -> None:
    await registry.answers()
    await push_disk(registry, tmp_path, "hello")
    for credentials in (Credentials("pilvi", "wrong"), Credentials("other", ME.password), Credentials("", "")):
        with pytest.raises(UserError, match="does not know the password"):
            await push_disk(registry, tmp_path, "other", credentials)
        async with Writer(registry.endpoint, credentials) as writer:
            with pytest.raises(UserError, match="password"):
                await writer.delete(BOOT)
            with pytest.raises(UserError, match="password"):
                await writer.list_images()
    async with Registry(BOOT, endpoint=registry.endpoint) as reader:
        await reader.manifest()


async def test_clients_are_sent_for_a_token_by_the_name_they_came_with(registry: Served) -> None:
    """What upstream's programs do: ask /v2/, take a token with or without a name, and use it for an hour."""
    await registry.answers()
    base = registry.endpoint.url
    async with aiohttp.ClientSession(connector=registry.endpoint.connector()) as session:
        async with session.get(f"{base}/v2/") as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == f'Bearer realm="{base}/token",service="registry"'
        async with session.get(f"{base}/token", headers=basic(Credentials("pilvi", "wrong"))) as response:
            assert response.status == 401
        async with session.post(f"{base}/token") as response:
            assert response.status == 405  # containerd tries this first, and then asks with GET
        tokens = {}
        for name, headers in (("nobody", {}), ("me", basic(ME))):
            async with session.get(f"{base}/token?scope=repository:x:pull,push", headers=headers) as response:
                tokens[name] = f"Bearer {(await response.json())['token']}"
        for name, expected in (("nobody", 401), ("me", 202)):
            async with session.get(f"{base}/v2/", headers={"Authorization": tokens[name]}) as response:
                assert response.status == 200
            async with session.post(f"{base}/v2/x/blobs/uploads/", headers={"Authorization": tokens[name]}) as response:
                assert response.status == expected, name
        forged = tokens["nobody"].replace(".pull~", ".push~")
        async with session.post(f"{base}/v2/x/blobs/uploads/", headers={"Authorization": forged}) as response:
            assert response.status == 401
        registry.set_password("another password that is long")
        async with session.post(f"{base}/v2/x/blobs/uploads/", headers={"Authorization": tokens["me"]}) as response:
            assert response.status == 401


async def test_what_no_tag_leads_to_goes_and_the_rest_stays(registry: Served, tmp_path: Path) -> None:
    await registry.answers()
    await push_disk(registry, tmp_path, "first")
    async with a_disk(tmp_path, "second") as bundle, Writer(registry.endpoint, ME) as writer:
        other = parse_reference("pilvi.dev/other:v1")
        await writer.push(other, bundle)
        both = registry.disk_bytes()
        await writer.delete(BOOT)
        with pytest.raises(UserError, match=r"has no pilvi\.dev/team-a/boot:v1"):
            await writer.delete(BOOT)
        await wait_for(lambda: registry.disk_bytes() < both, 20, "the image to leave the disk")
        assert [stored.reference for stored in await writer.list_images()] == [other]
        await store_of(registry, tmp_path / "store").ensure(other, "Always")
        await writer.push(BOOT, bundle)  # a name that was there before


async def test_an_image_for_several_platforms_keeps_all_of_them(registry: Served, tmp_path: Path) -> None:
    await registry.answers()
    async with a_disk(tmp_path, "hello") as amd64:
        entry = {
            "mediaType": amd64.media_type,
            "digest": f"sha256:{hashlib.sha256(amd64.manifest).hexdigest()}",
            "size": len(amd64.manifest),
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        index = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}).encode()
        whole = Bundle("application/vnd.oci.image.index.v1+json", index, amd64.blobs, {entry["digest"]: (amd64.media_type, amd64.manifest)})
        async with Writer(registry.endpoint, ME) as writer:
            await writer.push(BOOT, whole)
            # A deletion elsewhere makes the collector run.
            gone = parse_reference("pilvi.dev/gone:v1")
            await writer.push(gone, Bundle(amd64.media_type, *_empty()))
            before = registry.disk_bytes()
            await writer.delete(gone)
        await wait_for(lambda: registry.disk_bytes() < before, 20, "the other image to leave the disk")
    await store_of(registry, tmp_path / "store").ensure(BOOT, "Always")


def _empty() -> tuple[bytes, dict[str, tuple[bytes, ...]]]:
    manifest, digest = make_manifest(b'{"os":"linux"}', [], {})
    return manifest, {digest: (b'{"os":"linux"}',)}


async def test_a_push_that_broke_off_goes_on_and_its_rest_is_no_image(registry: Served, tmp_path: Path) -> None:
    await registry.answers()
    async with a_disk(tmp_path, "hello") as bundle, Writer(registry.endpoint, ME) as writer:
        first, *_ = bundle.blobs
        half = Bundle(bundle.media_type, bundle.manifest, {first: bundle.blobs[first]})
        with pytest.raises(UserError, match="does not take"):  # its manifest names what has not come
            await writer.push(BOOT, half)
        assert await writer.find(BOOT) is None
        registry.kill()
        with pytest.raises(Transient, match="does not answer"):
            await writer.push(BOOT, bundle)
        registry.start()
        await registry.answers()
        sent: list[int] = []
        await writer.push(BOOT, bundle, lambda done, _all: sent.append(done))
        assert sent[-1] == bundle.size_bytes


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},uid={USER},gid={USER},mode=0700", "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


async def test_a_full_disk_is_said_before_anything_is_sent(registry: Served, tmp_path: Path) -> None:
    registry.kill()
    with small_disk(registry.folder / "data", "4m"):
        registry.start("--reserve-mb=2")
        await registry.answers()
        await push_disk(registry, tmp_path, "small")
        big = tmp_path / "big.bin"
        big.write_bytes(os.urandom(3 << 20))
        bundle = await wrap_files([{"disk/big.qcow2": big}], {})
        async with Writer(registry.endpoint, ME) as writer:
            with pytest.raises(UserError, match=r"the registry's disk is full") as refused:
                await writer.push(parse_reference("pilvi.dev/big:v1"), bundle)
        assert "pilvi image delete" in (refused.value.hint or "")
        await store_of(registry, tmp_path / "store").ensure(BOOT, "Always")
        registry.kill()


async def test_a_renewed_certificate_is_shown_without_a_restart(registry: Served) -> None:
    await registry.answers()

    async def shown() -> bytes:
        context = registry.endpoint.connector()._ssl
        _, writer = await asyncio.open_connection("127.0.0.1", registry.endpoint.port, ssl=context, server_hostname="pilvi.dev")  # type: ignore[arg-type]
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return found

    before = await shown()
    registry.certify()
    (registry.folder / "tls.key").write_text("half")  # it is written in two steps

    async def is_new() -> bool:
        return await shown() != before

    assert await shown() == before
    registry.certify()
    await wait_for(is_new, 60, "the new certificate to be shown")


async def test_a_node_image_is_stored_when_it_is_asked_for_and_once(registry: Served, tmp_path: Path) -> None:
    await registry.answers()
    made = _node_image(tmp_path / "kit", "first")
    asked: list[str] = []

    async def credentials() -> Credentials:
        asked.append("")
        return ME

    disks = NodeDisks(registry.endpoint, credentials, tmp_path / "kit", tmp_path / "scratch")
    task = asyncio.create_task(disks.run())
    store = ImageStore(tmp_path / "store")
    store.own = disks
    try:
        with pytest.raises(UserError, match=r"has no pilvi\.dev/node:v1\.2\.4"):
            await store.ensure(parse_reference("pilvi.dev/node:v1.2.4"), "Always")
        assert not asked, "what is no node image of the kit is nobody's business"
        waiting = asyncio.create_task(store.ensure(parse_reference("pilvi.dev/node:v1.2.3"), "Always"))
        disk = await store.ensure(parse_reference("pilvi.dev/node:1.2.3"), "Always")
        assert (await waiting).digest == disk.digest
        assert disk.size_bytes == made.disk.stat().st_size
        kernel, _ = await store.ensure_files(parse_reference("pilvi.dev/node:v1.2.3"), "Always", ("/boot/vmlinuz", "/boot/initrd"))
        assert kernel.read_bytes() == made.kernel.read_bytes()
        stored = registry.disk_bytes()
        assert stored < 4 << 20, "holes of the disk are not stored"
        _node_image(tmp_path / "kit", "second")  # built anew, as another folder
        renewed = await store.ensure(parse_reference("pilvi.dev/node:v1.2.3"), "Always")
        assert renewed.digest != disk.digest
        assert not (tmp_path / "scratch").exists()
    finally:
        task.cancel()
        await asyncio.wait([task])


def _node_image(kit_folder: Path, word: str) -> NodeImage:
    image = NodeImage(version="v1.2.3", folder=kit_folder / f"node-image-v1.2.3-{word}", pause="pause")
    image.folder.mkdir(parents=True)
    with image.disk.open("wb") as file:
        file.write(boot_disk(word))
        file.truncate(1 << 30)
    image.kernel.write_text(f"kernel {word}")
    image.initrd.write_text("initrd")
    (image.folder / MANIFEST).write_text(json.dumps({"version": image.version, "pause": image.pause}))
    return image


async def test_saved_images_are_pushed_as_they_are(registry: Served, tmp_path: Path) -> None:
    """A layout as skopeo writes it, and the same as an archive."""
    await registry.answers()
    folder = tmp_path / "layout"
    (folder / "blobs/sha256").mkdir(parents=True)
    async with a_disk(tmp_path, "hello") as bundle:
        digest = hashlib.sha256(bundle.manifest).hexdigest()
        (folder / "blobs/sha256" / digest).write_bytes(bundle.manifest)
        for name, content in bundle.blobs.items():
            data = b"".join(part if isinstance(part, bytes) else part.path.read_bytes() for part in content)
            (folder / "blobs/sha256" / name.removeprefix("sha256:")).write_bytes(data)
        entry = {"mediaType": bundle.media_type, "digest": f"sha256:{digest}", "size": len(bundle.manifest)}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    with tarfile.open(tmp_path / "saved.tar", "w") as archive:
        archive.add(folder, ".")
    for number, path in enumerate((folder, tmp_path / "saved.tar")):
        found = read_bundle(path)
        assert found is not None
        reference = parse_reference(f"pilvi.dev/saved:{number}")
        async with Writer(registry.endpoint, ME) as writer:
            assert await writer.push(reference, found) == f"sha256:{digest}"
        await store_of(registry, tmp_path / f"store{number}").ensure(reference, "Always")
