"""Asks an API server whether something is so, every 20 ms over one connection: a poll costs about a millisecond, while a start of kubectl
costs a processor for 0.15 s and would be measured with the rest. Standard library only, as it runs beside what is measured.

Usage: probe.py KUBECONFIG WHAT; returns as soon as WHAT is so, with exit code 1 after two minutes:

    readyz               the server calls itself ready
    serviceaccount       a pod could start in the namespace default
    signed               `kubeadm join` could begin: cluster-info carries a token's signature
    ranges NUMBER        so many nodes have a range for pods; prints a line `RANGE ADDRESS` for each
    nodes NUMBER         so many nodes are Ready
    dns                  the Deployment of CoreDNS is Available
"""

import base64
import http.client
import json
import os
import re
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

POLL_S = 0.02
PATIENCE_S = 120.0


class Api:
    """One API server, with the credentials of a kubeconfig whose certificates stand in it as data."""

    def __init__(self, kubeconfig: str) -> None:
        found = dict(re.findall(r'(server|[a-z-]+-data)"?: *"?([^\s",]+)', kubeconfig))  # YAML, or JSON, which is YAML too
        self.url = found["server"]
        self.tls = ssl.create_default_context(cadata=base64.b64decode(found["certificate-authority-data"]).decode())
        descriptor, name = tempfile.mkstemp()  # ssl takes a client's key from a file only
        try:
            os.write(descriptor, b"\n".join(base64.b64decode(found[f"client-{part}-data"]) for part in ("certificate", "key")))
            self.tls.load_cert_chain(name)
        finally:
            os.close(descriptor)
            os.unlink(name)
        self._connection: http.client.HTTPSConnection | None = None

    def find(self, path: str) -> bytes | None:
        """The body, or None when there is no answer or none of success."""
        if self._connection is None:
            self._connection = self._connect()
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = None
            return None
        return body if answer.status == http.client.OK else None

    def get(self, path: str) -> Any:
        """The object; raises LookupError when it is not there."""
        body = self.find(path)
        if body is None:
            raise LookupError(path)
        return json.loads(body)

    def items(self, path: str) -> list[dict[str, Any]]:
        """The objects of a list; none when there is no answer."""
        return list(json.loads(self.find(path) or b'{"items": []}')["items"])

    def watch(self, path: str) -> Iterator[dict[str, Any]]:
        """Each state of each object below `path`, from those that are there on, without any poll; ends when nothing comes for long."""
        connection = self._connect()
        try:
            connection.request("GET", f"{path}?watch=1")
            for line in connection.getresponse():
                yield json.loads(line)["object"]
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPSConnection:
        server = urlsplit(self.url)
        return http.client.HTTPSConnection(str(server.hostname), server.port or 443, context=self.tls, timeout=PATIENCE_S)


def wait(predicate: Callable[[], bool]) -> None:
    """Ask until it is so; raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(POLL_S)


def has_condition(obj: dict[str, Any], kind: str) -> bool:
    """Whether the condition of that type is True."""
    return any(found["type"] == kind and found["status"] == "True" for found in obj.get("status", {}).get("conditions", []))


def is_ready(api: Api) -> bool:
    """Whether the server calls itself ready."""
    return api.find("/readyz") is not None


def is_signed(api: Api) -> bool:
    """Whether `kubeadm join` could begin."""
    return b"jws-kubeconfig-" in (api.find("/api/v1/namespaces/kube-public/configmaps/cluster-info") or b"")


def ranges(api: Api) -> list[str]:
    """`RANGE ADDRESS` of each node that has a range for its pods."""
    return [
        f"{node['spec']['podCIDR']} {next(found['address'] for found in node['status']['addresses'] if found['type'] == 'InternalIP')}"
        for node in api.items("/api/v1/nodes")
        if node["spec"].get("podCIDR") and node.get("status", {}).get("addresses")
    ]


def has_nodes(api: Api, number: int) -> bool:
    """Whether so many nodes are Ready."""
    return sum(has_condition(node, "Ready") for node in api.items("/api/v1/nodes")) >= number


def has_dns(api: Api) -> bool:
    """Whether CoreDNS is Available."""
    body = api.find("/apis/apps/v1/namespaces/kube-system/deployments/coredns")
    return body is not None and has_condition(json.loads(body), "Available")


def main(kubeconfig: str, what: str, number: str = "1") -> None:
    """Wait, and print what there is to print."""
    api = Api(Path(kubeconfig).read_text())
    questions: dict[str, Callable[[], bool]] = {
        "readyz": lambda: is_ready(api),
        "serviceaccount": lambda: api.find("/api/v1/namespaces/default/serviceaccounts/default") is not None,
        "signed": lambda: is_signed(api),
        "ranges": lambda: len(ranges(api)) >= int(number),
        "nodes": lambda: has_nodes(api, int(number)),
        "dns": lambda: has_dns(api),
    }
    wait(questions[what])
    if what == "ranges":
        print("\n".join(ranges(api)))


if __name__ == "__main__":
    main(*sys.argv[1:])
