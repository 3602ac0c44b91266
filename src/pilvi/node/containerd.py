"""containerd's configuration inside a node."""

import json

from pilvi.api.registry import REGISTRY_HOST

CONFIG = "/etc/containerd/config.toml"
CNI_TEMPLATE = "/etc/containerd/cni.template"
SOCKET = "/run/containerd/containerd.sock"
REGISTRIES = "/etc/containerd/certs.d"


def containerd_config(pause: str, *, systemd_cgroups: bool) -> bytes:
    """config.toml for a node whose sandbox image is `pause`.

    `systemd_cgroups` is true where systemd is PID 1 of the node; in a sandbox it is not, whatever the cgroup version.
    """
    return f'''version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{SOCKET}"

[plugins.'io.containerd.snapshotter.v1.overlayfs']
  # A container's writable layer ends with the container. Without this every end of one waits until the whole disk of the host is synced.
  mount_options = ["volatile"]

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{pause}"

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = "{REGISTRIES}"

[plugins.'io.containerd.cri.v1.runtime']
  # A host without CAP_SYS_RESOURCE cannot lower oom_score_adj, and every pod would fail.
  restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/opt/cni/bin"]
  conf_dir = "/etc/cni/net.d"
  # containerd writes the network configuration when the kubelet reports the node's pod CIDR.
  conf_template = "{CNI_TEMPLATE}"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = {json.dumps(systemd_cgroups)}
'''.encode()


def registry_files(authority: str) -> dict[str, bytes]:
    """What containerd has to know of the cloud's own registry, by path: its authority (PEM). Nothing without one."""
    if not authority:
        return {}
    folder = f"{REGISTRIES}/{REGISTRY_HOST}"
    hosts = f'server = "https://{REGISTRY_HOST}"\n\n[host."https://{REGISTRY_HOST}"]\n  ca = "{folder}/ca.crt"\n'
    return {f"{folder}/hosts.toml": hosts.encode(), f"{folder}/ca.crt": authority.encode()}


def cni_template(mtu: int) -> bytes:
    """The template of the pod network: a bridge per node, addresses from the node's pod CIDR.

    Nothing is masqueraded: the VPC's router knows a route to every node's pods and translates what leaves the VPC.
    """
    return f"""{{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {{
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "ipMasq": false,
      "hairpinMode": true,
      "mtu": {mtu},
      "ipam": {{
        "type": "host-local",
        "ranges": [{{{{range $i, $range := .PodCIDRRanges}}}}{{{{if $i}}}}, {{{{end}}}}[{{"subnet": "{{{{$range}}}}"}}]{{{{end}}}}],
        "routes": [{{{{range $i, $route := .Routes}}}}{{{{if $i}}}}, {{{{end}}}}{{"dst": "{{{{$route}}}}"}}{{{{end}}}}]
      }}
    }},
    {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
  ]
}}
""".encode()
