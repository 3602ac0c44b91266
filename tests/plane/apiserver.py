"""A real etcd and kube-apiserver on free ports of the loopback, for tests that need one and nothing more."""

from __future__ import annotations

import functools
import json
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pilvi.api.crds import KINDS, all_crds, all_policies
from pilvi.api.kubeovn import Subnet
from pilvi.api.kubevirt.migration import VirtualMachineInstanceMigration
from pilvi.kit import get_binary

USERS = {"admin": "kubernetes-admin", "engine": "system:pilvi:engine"}
VERSIONS = ["v1.35.7", "v1.36.3", "v1.37.2"]
NOBODY = "nobody"
"""A user in no group that may do anything; its token is made as the others'."""


def binary(name: str) -> str:
    """The kit's binary, or the one in the folder PILVI_TEST_BINARIES."""
    folder = os.environ.get("PILVI_TEST_BINARIES")
    return str(Path(folder) / name) if folder else str(get_binary(name))


@dataclass
class Answer:
    """One response: HTTP status, decoded body, and the text of each Warning header."""

    status: int
    body: dict[str, Any]
    warnings: list[str]

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


@dataclass
class ApiServer:
    """Start with `start`, always end with `stop`."""

    home: Path
    port: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    more_flags: tuple[str, ...] = ()
    """Of kube-apiserver."""

    def start(self) -> None:
        """Returns when /readyz answers; raises RuntimeError with the log's end when it does not within a minute."""
        etcd_port, peer_port, self.port = _free_ports(3)
        self._write_credentials()
        etcd_url, peer_url = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
        self._spawn(
            "etcd",
            f"--data-dir={self.home}/data",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--unsafe-no-fsync",
        )
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.home}/certs",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://test",
            f"--service-account-key-file={self.home}/sa.key",
            f"--service-account-signing-key-file={self.home}/sa.key",
            f"--token-auth-file={self.home}/tokens.csv",
            "--authorization-mode=RBAC",
            *self.more_flags,
        )
        deadline = time.monotonic() + 60
        while not self._ready():
            if time.monotonic() > deadline or any(process.poll() is not None for process in self.processes):
                raise RuntimeError(f"kube-apiserver is not ready: {(self.home / 'kube-apiserver.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def install(self) -> None:
        """All our kinds and policies, for tests that need no more of a cloud; returns when they are served and in force."""
        for crd in all_crds():
            self._create("apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        for policy in all_policies(VERSIONS):
            self._create(f"admissionregistration.k8s.io/v1/{_plural(policy['kind'])}", policy)
        self.wait_in_force()

    def wait_in_force(self) -> None:
        """Returns when the kinds are served and the policies that are there are obeyed, which takes the API server up to a second."""
        subnets = f"{Subnet.RESOURCE.path()}?dryRun=All"
        probe = {"apiVersion": Subnet.RESOURCE.api_version, "kind": "Subnet", "metadata": {"name": "probe"}}
        # The first and the last of the policies by name: they may come into force one after the other.
        migrations = f"{VirtualMachineInstanceMigration.RESOURCE.path('default')}?dryRun=All"
        move = {
            "apiVersion": VirtualMachineInstanceMigration.RESOURCE.api_version,
            "kind": VirtualMachineInstanceMigration.RESOURCE.kind,
            "metadata": {"name": "probe"},
        }

        def in_force() -> bool:
            if any(self.request("GET", kind.RESOURCE.path()).status != 200 for kind in KINDS):
                return False
            refused = self.request("POST", subnets, {**probe, "spec": {"cidrBlock": "none"}})
            warned = self.request("POST", subnets, {**probe, "spec": {"cidrBlock": "10.0.0.0/24", "enableEcmp": True}})
            lost = self.request("POST", migrations, {**move, "spec": {"vmiName": ""}})
            return (refused.status, lost.status) == (422, 422) and bool(warned.warnings)

        deadline = time.monotonic() + 60
        while not in_force():
            assert time.monotonic() < deadline, "the policies do not come into force"
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends both, the API server first: without its etcd it would not end for a minute."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def request(self, method: str, path: str, body: Any = None, *, user: str = "admin", content_type: str = "application/json") -> Answer:
        """One request; an error status is an answer too."""
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {user}-token", "Content-Type": content_type},
        )
        try:
            with urllib.request.urlopen(request, context=_unverified(), timeout=30) as response:  # noqa: S310
                return _answer(response.status, response.read(), response.headers.get_all("Warning") or [])
        except urllib.error.HTTPError as error:
            return _answer(error.code, error.read(), error.headers.get_all("Warning") or [])

    def _create(self, path: str, obj: dict[str, Any]) -> None:
        answer = self.request("POST", f"/apis/{path}", obj)
        assert answer.status == 201, f"{obj['metadata']['name']}: {answer.message}"

    def _ready(self) -> bool:
        try:
            return self.request("GET", "/readyz").status == 200
        except (urllib.error.URLError, ConnectionError):
            return False

    def _spawn(self, name: str, *flags: str) -> None:
        with (self.home / f"{name}.log").open("wb") as log:
            self.processes.append(subprocess.Popen([binary(name), *flags], stdout=log, stderr=log, cwd=self.home))

    def _write_credentials(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        (self.home / "sa.key").write_bytes(pem)
        lines = [f'{user}-token,{name},{user},"system:masters"' for user, name in USERS.items()]
        lines.append(f'{NOBODY}-token,{NOBODY},{NOBODY},"nobodies"')
        (self.home / "tokens.csv").write_text("\n".join(lines))


def _plural(kind: str) -> str:
    return "validatingadmissionpolicies" if kind == "ValidatingAdmissionPolicy" else "validatingadmissionpolicybindings"


def _answer(status: int, content: bytes, warnings: list[str]) -> Answer:
    try:
        body = json.loads(content)
    except ValueError:
        body = {"message": content.decode()}
    return Answer(status, body, [text.split('"', 1)[-1].rstrip('"') for text in warnings])


@functools.cache
def _unverified() -> ssl.SSLContext:
    """Made once, and without the authorities that this host trusts: to read those for each request took most of a test's time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
