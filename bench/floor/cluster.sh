#!/bin/sh
# The floor of a cluster: a control plane by hand, kubeadm's phases, and workers by hand from the same node image; every step begins as soon
# as it can. Needs control groups of version 1.
# Usage: cluster.sh PROGRAMS VERSION PYTHON IMAGE; prints "cluster SECONDS" (two nodes Ready, DNS Available), "added SECONDS" (one more
# node Ready), "worker BYTES" (memory of one at rest, mean of two) and "removed SECONDS" (nothing of it all is left). Certificates are made
# before the time begins.
set -eu
. "$(dirname "$0")/enclosure.sh"
PATH=$1:$PATH version=$2 PYTHON=$3 image=$4
. "$here/plane.sh"

start_worker() {
    number=$1 name=w$1
    for tree in /sys/fs/cgroup/*/; do
        mkdir -p "$tree$group/$name"
    done
    for file in cpuset.cpus cpuset.mems; do # a new cpuset is empty
        cat /sys/fs/cgroup/cpuset/$file >"/sys/fs/cgroup/cpuset/$group/$file"
        cat /sys/fs/cgroup/cpuset/$file >"/sys/fs/cgroup/cpuset/$group/$name/$file"
    done
    ip netns add "$name"
    ip link add "$name" master br0 up type veth peer name eth0 netns "$name"
    ip -n "$name" link set lo up
    ip -n "$name" address add 10.99.0.1$number/24 dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" route add default via $address
    (
        for tree in /sys/fs/cgroup/*/; do echo 0 >"$tree$group/$name/cgroup.procs"; done
        exec ip netns exec "$name" unshare --mount --pid --fork --uts --ipc --cgroup --kill-child \
            sh "$here/worker.sh" "$name" "$image" "$folder/$name" $address:6443 >"$folder/$name.log" 2>&1
    ) &
    workers="$workers $!"
}
# Pods of a node are behind it.
route_pods() { probe ranges "$1" | while read -r range node; do ip route replace "$range" via "$node"; done; }
worker_pids() { find "/sys/fs/cgroup/memory/$group/$1" -name cgroup.procs -exec cat {} +; }

group=$(basename "$folder") workers=
echo 1 >/proc/sys/net/ipv4/ip_forward
cp "$image/image.json" "$folder"
make_certificates

started=$(now)
start_api
start_controllers
start_worker 1
start_worker 2
phase bootstrap-token --kubeconfig "$KUBECONFIG" & steps=$!
phase upload-config all --kubeconfig "$KUBECONFIG" & steps="$steps $!"
phase addon all --kubeconfig "$KUBECONFIG" & steps="$steps $!"
for step in $steps; do wait "$step"; done
probe signed
touch "$folder/signed"
route_pods 2
probe nodes 2
probe dns
echo "cluster $(since "$started")"

sleep 15 # at rest
echo "worker $(awk '/^Pss_(Anon|Shmem):/ { sum += $2 } END { printf "%d", sum * 1024 / 2 }' $(worker_pids . | sed 's,.*,/proc/&/smaps_rollup,'))"

started=$(now)
start_worker 3
route_pods 3
probe nodes 3
echo "added $(since "$started")"

started=$(now)
kill -KILL $workers $plane
wait
for name in w1 w2 w3; do
    ip netns delete $name
    until [ -z "$(worker_pids $name)" ]; do sleep 0.02; done
done
for tree in /sys/fs/cgroup/*/; do
    find "$tree$group" -depth -type d -exec rmdir {} +
done
rm -rf "$folder"/*
echo "removed $(since "$started")"
