#!/bin/sh
# One worker: started as the first process of namespaces of its own, makes the node image's root tree its root, starts containerd, joins
# by kubeadm, and starts the kubelet, as there is no systemd.
# Usage: worker.sh NAME IMAGE STATE API; joins when STATE/../signed is there. Its own control group is the process's in every tree.
set -eu
if [ "$1" != inside ]; then
    name=$1 image=$2 state=$3 api=$4
    hostname "$name"
    groups=$(cut -d : -f 2 /proc/self/cgroup)
    mount --make-rslave /
    mkdir -p "$state/layer" "$state/work" "$state/root" "$state/kubelet"
    # The images are there already, as hard links; databases are written, so they are copies.
    cp -al "$image/containerd" "$state/containerd"
    (cd "$image/containerd" && find . -name '*.db') | while read -r file; do
        cp --remove-destination "$image/containerd/$file" "$state/containerd/$file"
    done
    mount -t overlay overlay -o "lowerdir=$image/root,upperdir=$state/layer,workdir=$state/work" "$state/root"
    cd "$state/root"
    mount -t proc proc proc
    # The kubelet writes settings of the whole host: it gets files instead.
    for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
        file=$state/$(basename $setting)
        cat /proc/sys/$setting >"$file"
        mount --bind "$file" proc/sys/$setting
    done
    mount -t sysfs sysfs sys
    mount -t tmpfs none sys/fs/cgroup
    for group in $groups; do
        case $group in
        name=*) tree=${group#name=} options=none,$group ;;
        *) tree=$group options=$group ;;
        esac
        mkdir sys/fs/cgroup/"$tree"
        mount -t cgroup -o "$options" cgroup sys/fs/cgroup/"$tree"
    done
    mount --rbind /dev dev
    mount -t tmpfs none run
    mount -t tmpfs none tmp
    mount --bind "$state/containerd" var/lib/containerd
    mount --bind "$state/kubelet" var/lib/kubelet
    mount --make-rshared var/lib/kubelet
    mkdir -p run/floor
    mount --bind "$(dirname "$state")" run/floor
    cp "$0" run/worker.sh
    pivot_root . mnt
    exec chroot . /bin/sh /run/worker.sh inside "$name" "$api"
fi

name=$2 api=$3
umount -l /mnt
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
echo 1 >/proc/sys/net/ipv4/ip_forward
# kubeadm and the kubelet look the node's own name up, and CoreDNS wants a nameserver that is not itself; it is never asked.
printf '127.0.0.1 localhost\n%s %s\n' "$(hostname -I | cut -d ' ' -f 1)" "$name" >/etc/hosts
echo "nameserver ${api%:*}" >/etc/resolv.conf
mkdir -p /etc/containerd /etc/kubernetes/kubelet.conf.d
cat >/etc/containerd/config.toml <<X
version = 3
[plugins.'io.containerd.snapshotter.v1.overlayfs']
  mount_options = ["volatile"]
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "$(sed -n 's/.*"pause": *"\([^"]*\)".*/\1/p' /run/floor/image.json)"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/opt/cni/bin"]
  conf_template = "/etc/containerd/cni.template"
X
cat >/etc/containerd/cni.template <<'X'
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "{{.PodCIDR}}"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
X
cat >/etc/kubernetes/kubelet.conf.d/floor.conf <<X
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
resolvConf: /etc/resolv.conf
serializeImagePulls: false
evictionHard: {memory.available: 64Mi, nodefs.available: 1Gi, imagefs.available: 1Gi, nodefs.inodesFree: "10000"}
X
containerd >/var/log/containerd.log 2>&1 &
until [ -e /run/floor/signed ] && [ -S /run/containerd/containerd.sock ]; do sleep 0.02; done
kubeadm join "$api" --token abcdef.0123456789abcdef --discovery-token-unsafe-skip-ca-verification --node-name "$name" \
    --ignore-preflight-errors SystemVerification >/var/log/join.log 2>&1 &
# The second file is there before it is whole.
until [ -e /var/lib/kubelet/config.yaml ] && grep -q '=".*"$' /var/lib/kubelet/kubeadm-flags.env 2>/dev/null; do sleep 0.02; done
. /var/lib/kubelet/kubeadm-flags.env
# shellcheck disable=SC2086 # it is a list of words
kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf \
    --config=/var/lib/kubelet/config.yaml --config-dir=/etc/kubernetes/kubelet.conf.d $KUBELET_KUBEADM_ARGS >/var/log/kubelet.log 2>&1
