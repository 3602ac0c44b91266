#!/bin/sh
# The floor of a control plane: kubeadm's own certificates, then the four programs started by hand as soon as each can start.
# Usage: control-plane.sh PROGRAMS VERSION; prints "readyz SECONDS", "serviceaccount SECONDS" (a pod could start) and "memory BYTES".
set -eu
PATH=$1:$PATH
version=$2 # without it kubeadm asks the Internet which one is the newest
# In a network namespace of its own the usual ports are free.
[ "${3:-}" = inside ] || exec unshare --net sh "$0" "$1" "$2" inside

folder=$(mktemp -d)
address=10.99.0.1
pki=$folder/pki
export KUBECONFIG="$folder/super-admin.conf"

now() { date +%s.%N; }
since() { echo "$(now) $1" | awk '{ printf "%.2f", $1 - $2 }'; }
memory() { awk '/^Pss:/ { sum += $2 } END { printf "%d", sum * 1024 }' $(printf '/proc/%s/smaps_rollup ' "$@"); }

ip link set lo up
ip address add $address/32 dev lo
ip route add default dev lo
kubeadm init phase certs all --cert-dir "$pki" --kubernetes-version "$version" \
    --apiserver-advertise-address $address --control-plane-endpoint $address >/dev/null 2>&1
for user in super-admin controller-manager scheduler; do
    kubeadm init phase kubeconfig $user --cert-dir "$pki" --kubeconfig-dir "$folder" --kubernetes-version "$version" \
        --apiserver-advertise-address $address --control-plane-endpoint $address >/dev/null 2>&1
done

started=$(now)
etcd --data-dir "$folder/etcd" --listen-client-urls https://127.0.0.1:2379 --advertise-client-urls https://127.0.0.1:2379 \
    --trusted-ca-file "$pki/etcd/ca.crt" --cert-file "$pki/etcd/server.crt" --key-file "$pki/etcd/server.key" --client-cert-auth \
    --listen-peer-urls http://127.0.0.1:2380 --log-level warn >"$folder/etcd.log" 2>&1 &
etcd=$!
kube-apiserver --bind-address $address --advertise-address $address --service-cluster-ip-range 10.96.0.0/16 \
    --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" --client-ca-file "$pki/ca.crt" \
    --etcd-servers https://127.0.0.1:2379 --etcd-cafile "$pki/etcd/ca.crt" \
    --etcd-certfile "$pki/apiserver-etcd-client.crt" --etcd-keyfile "$pki/apiserver-etcd-client.key" \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$pki/sa.pub" \
    --service-account-signing-key-file "$pki/sa.key" --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
    --enable-bootstrap-token-auth --allow-privileged >"$folder/apiserver.log" 2>&1 &
apiserver=$!
trap 'kill -9 $etcd $apiserver ${manager:-} ${scheduler:-} 2>/dev/null; wait; rm -rf "$folder"' EXIT
until kubectl get --raw /readyz >/dev/null 2>&1; do sleep 0.05; done
echo "readyz $(since "$started")"

kube-controller-manager --kubeconfig "$folder/controller-manager.conf" --allocate-node-cidrs --cluster-cidr 10.244.0.0/16 \
    --service-cluster-ip-range 10.96.0.0/16 --root-ca-file "$pki/ca.crt" --service-account-private-key-file "$pki/sa.key" \
    --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" --use-service-account-credentials \
    --leader-elect=false --kube-api-qps 300 --kube-api-burst 600 --bind-address 127.0.0.1 >"$folder/manager.log" 2>&1 &
manager=$!
kube-scheduler --kubeconfig "$folder/scheduler.conf" --leader-elect=false --bind-address 127.0.0.1 >"$folder/scheduler.log" 2>&1 &
scheduler=$!
until kubectl get serviceaccount default >/dev/null 2>&1; do sleep 0.05; done
echo "serviceaccount $(since "$started")"
sleep 15 # what a control plane needs at rest, not while it starts
echo "memory $(memory $etcd $apiserver $manager $scheduler)"
