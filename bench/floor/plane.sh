# A control plane by hand, as functions: kubeadm's own certificates, then four programs. For scripts that are in a network namespace of
# their own, so that the usual ports are free. They set: PYTHON, version, folder (empty, on a real file system).
address=10.99.0.1
pki=$folder/pki
export KUBECONFIG="$folder/super-admin.conf"

now() { date +%s.%N; }
since() { echo "$(now) $1" | awk '{ printf "%.2f", $1 - $2 }'; }
probe() { "$PYTHON" -I "$here/probe.py" "$KUBECONFIG" "$@"; }
phase() { kubeadm init phase "$@" --config "$folder/kubeadm.yaml" >>"$folder/kubeadm.log" 2>&1; }

make_certificates() {
    ip link set lo up
    ip link add name br0 type bridge # workers may come to it
    ip address add $address/24 dev br0
    ip link set br0 up
    ip route add default dev br0
    cat >"$folder/kubeadm.yaml" <<X
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: $address}
bootstrapTokens: [{token: abcdef.0123456789abcdef}]
nodeRegistration: {name: none, criSocket: "unix:///run/containerd/containerd.sock"}
patches: {directory: $folder/patches}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: $version
controlPlaneEndpoint: $address:6443
certificatesDir: $pki
encryptionAlgorithm: ECDSA-P256
networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16}
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
conntrack: {maxPerCore: 0, min: 0}
X
    # As in pilvi: at kubeadm's own figures DNS would be called ready, and unschedulable pods looked at again, after up to ten seconds.
    mkdir "$folder/patches"
    cat >"$folder/patches/corednsdeployment+strategic.yaml" <<X
spec: {template: {spec: {containers: [{name: coredns, readinessProbe: {periodSeconds: 1, failureThreshold: 10}}]}}}
X
    cat >"$folder/scheduler.yaml" <<X
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {kubeconfig: $folder/scheduler.conf}
leaderElection: {leaderElect: false}
podMaxBackoffSeconds: 2
X
    phase certs all
    for user in super-admin controller-manager scheduler; do
        phase kubeconfig $user --kubeconfig-dir "$folder"
    done
    sed -i /^certificatesDir/d "$folder/kubeadm.yaml" # workers have them at kubeadm's own place
}

start_api() {
    etcd --data-dir "$folder/etcd" --listen-client-urls https://127.0.0.1:2379 --advertise-client-urls https://127.0.0.1:2379 \
        --trusted-ca-file "$pki/etcd/ca.crt" --cert-file "$pki/etcd/server.crt" --key-file "$pki/etcd/server.key" --client-cert-auth \
        --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
        --initial-cluster default=http://127.0.0.1:2380 --log-level warn >"$folder/etcd.log" 2>&1 &
    plane=$!
    kube-apiserver --bind-address $address --advertise-address $address --service-cluster-ip-range 10.96.0.0/16 \
        --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" --client-ca-file "$pki/ca.crt" \
        --etcd-servers https://127.0.0.1:2379 --etcd-cafile "$pki/etcd/ca.crt" \
        --etcd-certfile "$pki/apiserver-etcd-client.crt" --etcd-keyfile "$pki/apiserver-etcd-client.key" \
        --kubelet-client-certificate "$pki/apiserver-kubelet-client.crt" --kubelet-client-key "$pki/apiserver-kubelet-client.key" \
        --service-account-issuer https://kubernetes.default.svc.cluster.local --service-account-key-file "$pki/sa.pub" \
        --service-account-signing-key-file "$pki/sa.key" --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
        --enable-bootstrap-token-auth --allow-privileged >"$folder/apiserver.log" 2>&1 &
    plane="$plane $!"
    probe readyz
}

start_controllers() {
    kube-controller-manager --kubeconfig "$folder/controller-manager.conf" --allocate-node-cidrs --cluster-cidr 10.244.0.0/16 \
        --service-cluster-ip-range 10.96.0.0/16 --root-ca-file "$pki/ca.crt" --service-account-private-key-file "$pki/sa.key" \
        --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" --use-service-account-credentials \
        --controllers '*,bootstrapsigner,tokencleaner' --leader-elect=false --kube-api-qps 300 --kube-api-burst 600 \
        --bind-address 127.0.0.1 >"$folder/manager.log" 2>&1 &
    plane="$plane $!"
    kube-scheduler --config "$folder/scheduler.yaml" --bind-address 127.0.0.1 >"$folder/scheduler.log" 2>&1 &
    plane="$plane $!"
}
