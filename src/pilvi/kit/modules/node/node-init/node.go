package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	stateFolder      = "/var/lib/pilvi"
	containerdSocket = "/run/containerd/containerd.sock"
	kubeletConfig    = "/var/lib/kubelet/config.yaml"
	kubeletFlags     = "/var/lib/kubelet/kubeadm-flags.env"
	kubeletDropIns   = "/etc/kubernetes/kubelet.conf.d"
	kubeletDefaults  = "/etc/default/kubelet"
	podBridge        = "cni0" // as in the template of the CNI configuration
)

func alwaysReady() bool { return true }

func containerdCommand() ([]string, error) {
	return []string{"/usr/bin/containerd"}, nil
}

// kubeletReady tells whether kubeadm has left what the kubelet needs. Under systemd it would fail and start again until
// then. A kubelet without containerd would give up too.
func kubeletReady() bool {
	return exists(kubeletConfig) && exists(kubeletFlags) && containerdAnswers()
}

// kubeletCommand builds the arguments of the kubelet as kubeadm's systemd drop-in does: what kubeadm found out, then
// what the node's owner adds. The folder of drop-ins holds the settings of this machine.
func kubeletCommand() ([]string, error) {
	content, err := os.ReadFile(kubeletFlags)
	if err != nil {
		return nil, err
	}
	extra, found := environmentWords(string(content), "KUBELET_KUBEADM_ARGS")
	if !found {
		return nil, fmt.Errorf("%s holds no line KUBELET_KUBEADM_ARGS=", kubeletFlags)
	}
	argv := []string{
		"/usr/bin/kubelet",
		"--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
		"--kubeconfig=/etc/kubernetes/kubelet.conf",
		"--config=" + kubeletConfig,
	}
	if exists(kubeletDropIns) {
		argv = append(argv, "--config-dir="+kubeletDropIns)
	}
	argv = append(argv, extra...)
	if content, err = os.ReadFile(kubeletDefaults); err == nil {
		extra, _ = environmentWords(string(content), "KUBELET_EXTRA_ARGS")
		argv = append(argv, extra...)
	}
	return argv, nil
}

// environmentWords reads NAME="words of text" from an environment file. Nobody quotes spaces inside a word there, and
// systemd splits the value at spaces.
func environmentWords(content, name string) ([]string, bool) {
	for _, line := range strings.Split(content, "\n") {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), name+"="); found {
			return strings.Fields(strings.Trim(value, `"`)), true
		}
	}
	return nil, false
}

func containerdAnswers() bool {
	connection, err := net.DialTimeout("unix", containerdSocket, time.Second)
	if err != nil {
		return false
	}
	connection.Close()
	return true
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return fmt.Sprintf("killed by signal %d (%v)", status.Signal(), status.Signal())
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus())
}
