#!/bin/sh
# The floor of a pod: containerd started by hand, and one container of an image that it has, by containerd's own command.
# Usage: container.sh PROGRAMS IMAGE_ARCHIVE REFERENCE; prints "container SECONDS".
set -eu
PATH=$1:$PATH
archive=$2 reference=$3
folder=$(mktemp -d -p /var/lib) # an overlay needs a real file system below it
socket=$folder/containerd.sock

cat >"$folder/config.toml" <<EOF
version = 3
root = "$folder/root"
state = "$folder/state"
[grpc]
  address = "$socket"
EOF
ctr() { command ctr --address "$socket" --namespace floor "$@"; }
containerd --config "$folder/config.toml" >"$folder/containerd.log" 2>&1 &
daemon=$!
trap 'ctr task kill -s KILL floor >/dev/null 2>&1; sleep 0.5; ctr container rm floor >/dev/null 2>&1; kill $daemon; wait; rm -rf "$folder"' EXIT
until ctr version >/dev/null 2>&1; do sleep 0.1; done
ctr image import "$archive" >/dev/null
started=$(date +%s.%N)
ctr run --detach "$reference" floor
echo "container $(echo "$(date +%s.%N) $started" | awk '{ printf "%.2f", $1 - $2 }')"
