#!/bin/sh
# The floor of a pod: containerd started by hand, and one container of an image that it has, by containerd's own command.
# Run as: container.sh FOLDER IMAGE_ARCHIVE REFERENCE   with the kit's node programs on PATH. Prints lines "NAME VALUE".
set -eu
folder=$1 archive=$2 reference=$3
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
trap 'ctr task kill -s KILL floor >/dev/null 2>&1; sleep 0.5; ctr container rm floor >/dev/null 2>&1; kill $daemon; wait' EXIT
until ctr version >/dev/null 2>&1; do sleep 0.1; done
ctr image import "$archive" >/dev/null
started=$(date +%s.%N)
ctr run --detach "$reference" floor
echo "container $(echo "$(date +%s.%N) $started" | awk '{ printf "%.2f", $1 - $2 }')"
