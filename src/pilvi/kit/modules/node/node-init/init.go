package main

import (
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// runInit is the whole life of the machine. It returns when everything has ended; the kernel then kills what is left.
func runInit(arguments []string) int {
	flags := flag.NewFlagSet("node-init", flag.ExitOnError)
	grace := flags.Duration("grace", 20*time.Second, "time for the machine to end after SIGTERM")
	_ = flags.Parse(arguments) // ExitOnError
	log.SetFlags(log.Ldate | log.Lmicroseconds)
	log.SetOutput(os.Stdout)

	stop := make(chan os.Signal, 4)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	reaper := startReaper()

	// Pods are routed through the node; a sandbox may write only the settings of its own network namespace.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		log.Printf("cannot turn on IPv4 forwarding, pods will not reach other nodes: %v", err)
	}
	if err := os.MkdirAll(stateFolder, 0o755); err != nil {
		log.Printf("cannot make %s: %v", stateFolder, err)
		return 1
	}
	removePodBridge(reaper)
	containerd := newService(reaper, "containerd", containerdCommand, alwaysReady)
	kubelet := newService(reaper, "kubelet", kubeletCommand, kubeletReady)
	services := map[string]*service{containerd.name: containerd, kubelet.name: kubelet}
	if err := serveControl(services); err != nil {
		log.Printf("cannot serve systemctl: %v", err)
		return 1
	}
	containerd.start()
	kubelet.start()
	go firstBoot(reaper)
	go trimLogs(containerd.name, kubelet.name)

	received := <-stop
	log.Printf("%v: the machine ends", received)
	shutDown(kubelet, containerd, time.Now().Add(*grace))
	log.Print("the machine has ended")
	return 0
}

// removePodBridge takes away what a reset leaves of the pod network: the network namespace outlives the machine's
// processes. The bridge would keep its address, and a node that got another pod CIDR meanwhile could start no pod.
func removePodBridge(r *reaper) {
	if !exists("/sys/class/net/" + podBridge) {
		return
	}
	if code := runScript(r, []string{"/usr/sbin/ip", "link", "delete", podBridge}, os.Stdout); code != 0 {
		log.Printf("cannot remove the link %s of the machine's last run: exit code %d", podBridge, code)
	}
}
