"""Command lines of the four components.

Flags are kubeadm's for the same release where it has them; each that differs says why.
"""

import yaml

from pilvi.controlplane.spec import API_SERVER, CONTROLLER_MANAGER, ETCD, SCHEDULER, ControlPlane, Flags, merge_flags

# Everything but the API server listens on the private loopback of the control plane's network namespace.
ETCD_CLIENT_PORT = 2379
ETCD_PEER_PORT = 2380
CONTROLLER_MANAGER_PORT = 10257
SCHEDULER_PORT = 10259

IGNORED_BESIDE_CONFIG = {
    "--contention-profiling",
    "--kube-api-burst",
    "--kube-api-content-type",
    "--kube-api-qps",
    "--kubeconfig",
    "--profiling",
}


def flags(plane: ControlPlane, component: str) -> Flags:
    """All flags of `component`, the user's merged in; raises KeyError for an unknown component."""
    ours = {ETCD: _etcd, API_SERVER: _api_server, CONTROLLER_MANAGER: _controller_manager, SCHEDULER: _scheduler}[component](plane)
    return merge_flags(ours, plane.extra_flags.get(component, ()))


def _etcd(plane: ControlPlane) -> Flags:
    client = f"https://127.0.0.1:{ETCD_CLIENT_PORT}"
    # The one member never speaks to a peer, so its peer port is plain and on a loopback that nobody else has.
    peer = f"http://127.0.0.1:{ETCD_PEER_PORT}"
    pki = plane.pki_dir
    return (
        "--name=default",
        f"--data-dir={plane.data_dir / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        f"--trusted-ca-file={pki}/etcd-ca.crt",
        f"--cert-file={pki}/etcd-server.crt",
        f"--key-file={pki}/etcd-server.key",
        "--client-cert-auth=true",
        # The one member waits for an election like any other, half a second on average at etcd's own figures.
        "--heartbeat-interval=25",
        "--election-timeout=250",
        # Fewer log entries between snapshots: less memory and a faster start after a power cut.
        "--snapshot-count=10000",
        "--log-level=warn",
    )


def _api_server(plane: ControlPlane) -> Flags:
    pki = plane.pki_dir
    return (
        f"--bind-address={plane.address}",
        f"--advertise-address={plane.advertise_address or plane.address}",
        f"--secure-port={plane.port}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--etcd-servers=https://127.0.0.1:{ETCD_CLIENT_PORT}",
        f"--etcd-cafile={pki}/etcd-ca.crt",
        f"--etcd-certfile={pki}/etcd-client.crt",
        f"--etcd-keyfile={pki}/etcd-client.key",
        f"--service-cluster-ip-range={plane.service_cidr}",
        f"--service-account-issuer=https://kubernetes.default.svc.{plane.cluster_domain}",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--authorization-mode=Node,RBAC",
        f"--enable-admission-plugins={','.join(plane.admission_plugins)}",
        "--enable-bootstrap-token-auth=true",
        "--allow-privileged=true",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        # Node names resolve nowhere outside a VPC; node addresses are routed to the control plane.
        f"--kubelet-preferred-address-types={','.join(plane.kubelet_address_types)}",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        # Webhooks and aggregated APIs are dialled at endpoint addresses: only nodes translate Service addresses.
        "--enable-aggregator-routing=true",
        "--profiling=false",
    )


def _controller_manager(plane: ControlPlane) -> Flags:
    pki = plane.pki_dir
    kubeconfig = plane.kubeconfig("controller-manager")
    node_cidrs = ("--allocate-node-cidrs=true", f"--cluster-cidr={plane.pod_cidr}") if plane.pod_cidr else ("--allocate-node-cidrs=false",)
    return (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={CONTROLLER_MANAGER_PORT}",
        *node_cidrs,
        f"--cluster-name={plane.cluster_name}",
        f"--service-cluster-ip-range={plane.service_cidr}",
        f"--client-ca-file={pki}/ca.crt",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        f"--service-account-private-key-file={pki}/sa.key",
        "--use-service-account-credentials=true",
        f"--controllers={','.join(plane.controllers)}",
        "--leader-elect=false",
        # The credentials of each controller are fetched one by one; at the default 20 a second the first ServiceAccount,
        # without which no pod starts, comes 6 s later.
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        "--profiling=false",
    )


def _scheduler(plane: ControlPlane) -> Flags:
    kubeconfig = plane.kubeconfig("scheduler")
    theirs = {flag.partition("=")[0] for flag in plane.extra_flags.get(SCHEDULER, ())}
    # The scheduler ignores these flags beside a configuration file, so who gives one of them gets no file.
    ours = (
        (f"--kubeconfig={kubeconfig}", "--profiling=false") if theirs & IGNORED_BESIDE_CONFIG else (f"--config={plane.scheduler_config}",)
    )
    return (
        *ours,
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={SCHEDULER_PORT}",
        "--leader-elect=false",
    )


def scheduler_config(plane: ControlPlane) -> bytes:
    """The scheduler's configuration file, YAML."""
    return yaml.safe_dump(
        {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": str(plane.kubeconfig("scheduler"))},
            "leaderElection": {"leaderElect": False},
            "enableProfiling": False,
            # Pods that were made before the first node (CoreDNS) would wait for up to 10 s after it is there.
            "podMaxBackoffSeconds": 2,
        },
        sort_keys=False,
    ).encode()
