#!/bin/sh
# The floor of a control plane: kubeadm's own certificates, then the four programs started by hand as soon as each can start.
# Usage: control-plane.sh PROGRAMS VERSION PYTHON; prints "readyz SECONDS", "serviceaccount SECONDS" (a pod could start) and "memory BYTES".
# Certificates are made before the time begins.
set -eu
. "$(dirname "$0")/enclosure.sh"
PATH=$1:$PATH version=$2 PYTHON=$3 # kubeadm asks the Internet for the newest version when it is told none
. "$here/plane.sh"

make_certificates
started=$(now)
start_api
echo "readyz $(since "$started")"
start_controllers
probe serviceaccount
echo "serviceaccount $(since "$started")"
sleep 15 # what a control plane needs at rest, not while it starts
echo "memory $(awk '/^Pss:/ { sum += $2 } END { printf "%d", sum * 1024 }' $(printf '/proc/%s/smaps_rollup ' $plane))"
