"""What runs on clusters in the scenarios: pods of one small image that needs no registry."""

import asyncio
import os
from pathlib import Path
from typing import Any

from pilvi import kit
from pilvi.kit.oci import Entry, ImageConfig, write_image
from pilvi.kit.toolchain import get_go
from tests.e2e.cloud import CloudUnderTest, run, wait_until
from tests.e2e.host import import_image

IMAGE = "pilvi.dev/probe:test"
SOURCE = Path(__file__).parent / "probe"


def build_image(folder: Path) -> Path:
    """Compile the probe and make an image archive of it; returns its path."""
    go = asyncio.run(get_go(kit.get_folder(), (1, 26)))
    binary, archive = folder / "probe", folder / "probe.tar"
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **go.environment(cgo=False)}
    run([str(go.binary), "build", "-C", str(SOURCE), "-trimpath", "-ldflags=-s", "-o", str(binary)], env=environment, timeout_s=600)
    write_image(archive, [IMAGE], [Entry("probe", binary)], ImageConfig(["/probe"]))
    return archive


class Workload:
    """The probe on one cluster (`NAMESPACE/NAME`), in the cluster's namespace `default`."""

    def __init__(self, cloud: CloudUnderTest, cluster: str, archive: Path) -> None:
        self.cloud = cloud
        self.cluster = cluster
        self._namespace = cluster.split("/", maxsplit=1)[0]
        self._archive = archive
        self._imported: set[str] = set()

    def import_image(self, nodes: list[str]) -> None:
        """Give the nodes the image, unless they have it."""
        for node in nodes:
            if node not in self._imported:
                import_image(self.cloud, self._namespace, node, self._archive)
                self._imported.add(node)

    def kubectl(self, *words: str, **fields: Any) -> str:
        """kubectl on the cluster."""
        return self.cloud.kubectl(*words, cluster=self.cluster, **fields)

    def apply(self, *manifest: object) -> None:
        """kubectl apply on the cluster."""
        # The ServiceAccount without which no pod is taken comes a moment after the API server answers.
        wait_until(lambda: self.cloud.exists("serviceaccount", "default", cluster=self.cluster), "ServiceAccount default")
        self.cloud.apply(list(manifest), cluster=self.cluster)

    def pods(self, app: str) -> list[Any]:
        """The pods of an app that run and are ready."""
        pods = self.cloud.items("pods", "-l", f"app={app}", cluster=self.cluster)
        return [pod for pod in pods if _is_ready(pod) and not pod["metadata"].get("deletionTimestamp")]

    def wait_for_pods(self, app: str, number: int) -> list[Any]:
        """Wait until exactly that many pods of the app are ready."""

        def ready() -> list[Any]:
            pods = self.pods(app)
            return pods if len(pods) == number else []

        return wait_until(ready, f"{number} ready pods of {app} on cluster {self.cluster}")

    def delete(self, app: str) -> None:
        """Delete the Deployment and wait until its pods are gone."""
        self.kubectl("delete", "deployment", app)
        wait_until(lambda: not self.cloud.exists("pods", "-l", f"app={app}", cluster=self.cluster), f"the pods of {app} to go")

    def probe(self, pod: str, *words: str) -> str:
        """Run the probe in a pod, again until it succeeds; returns what it printed."""
        return wait_until(lambda: self.kubectl("exec", pod, "--", "/probe", *words), f"/probe {' '.join(words)} in pod {pod}").strip()

    def fetch(self, pod: str, url: str) -> str:
        """What a web server answers to a pod."""
        return self.probe(pod, "fetch", url)


def deployment(app: str, *arguments: str, replicas: int = 1, spread: str = "ScheduleAnyway", **pod: Any) -> dict[str, Any]:
    """A Deployment of the probe; `spread` is what to do when its pods cannot be on different nodes, `pod` adds to the pod's spec."""
    labels = {"app": app}
    spec = {
        "terminationGracePeriodSeconds": 2,
        "containers": [{"name": "probe", "image": IMAGE, "imagePullPolicy": "Never", "args": list(arguments) or ["serve"]}],
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": spread, "labelSelector": {"matchLabels": labels}}
        ],
    }
    if "volumeMounts" in pod:
        spec["containers"][0]["volumeMounts"] = pod.pop("volumeMounts")
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": app},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {**spec, **pod}},
        },
    }


def service(app: str, port: int, target: int) -> dict[str, Any]:
    """A Service in front of an app."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": app},
        "spec": {"selector": {"app": app}, "ports": [{"port": port, "targetPort": target}]},
    }


def _is_ready(pod: Any) -> bool:
    return any(found["type"] == "Ready" and found["status"] == "True" for found in pod["status"].get("conditions") or [])
