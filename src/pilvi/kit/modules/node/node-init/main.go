// Command node-init is PID 1 of a Kubernetes node that runs in a sandbox, where systemd has no place.
//
// It starts containerd, carries out the machine's first-boot script once, keeps the kubelet running, reaps orphans and
// ends all in order on SIGTERM. Called as "systemctl" it is the client of the running init: kubeadm and the commands in
// bootstrap data start and stop the kubelet by that name.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if filepath.Base(os.Args[0]) == "systemctl" {
		os.Exit(runClient(os.Args[1:]))
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "node-init: runs only as PID 1 of a machine; as systemctl it talks to the running one")
		os.Exit(2)
	}
	os.Exit(runInit(os.Args[1:]))
}
