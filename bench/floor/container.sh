#!/bin/sh
# The floor of a pod: containerd started by hand, and one container of an image that it has, by containerd's own command.
# Usage: container.sh PROGRAMS IMAGE_ARCHIVE REFERENCE; prints "container SECONDS".
set -eu
. "$(dirname "$0")/enclosure.sh"
PATH=$1:$PATH archive=$2 reference=$3

cat >"$folder/config.toml" <<X
version = 3
root = "$folder/root"
X
ctr() { command ctr --namespace floor "$@"; }
containerd --config "$folder/config.toml" >"$folder/containerd.log" 2>&1 &
until ctr version >/dev/null 2>&1; do sleep 0.1; done
ctr image import "$archive" >"$folder/ctr.log" 2>&1
started=$(date +%s.%N)
ctr run --detach --cgroup "/$(basename "$folder")" "$reference" floor >>"$folder/ctr.log" 2>&1
echo "container $(echo "$(date +%s.%N) $started" | awk '{ printf "%.2f", $1 - $2 }')"
