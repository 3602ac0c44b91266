package main

import (
	"log"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	killReserve  = 2 * time.Second // of the grace, kept for what must be killed
	pollInterval = 50 * time.Millisecond
)

// shutDown ends the node in the order in which things need each other: the kubelet, which would start pods again, the
// pods, then containerd. All has ended by deadline.
func shutDown(kubelet, containerd *service, deadline time.Time) {
	podDeadline := deadline.Add(-killReserve)
	kubelet.stop(min(stopTimeout, time.Until(podDeadline)))
	if left := endContainers(podDeadline); left > 0 {
		log.Printf("%d containers did not end in time and are killed", left)
	}
	containerd.stop(max(time.Until(deadline), 0))
}

// endContainers asks the first process of every container to end and waits for them. It returns how many are left.
func endContainers(deadline time.Time) int {
	asked := map[int]bool{}
	for {
		left := containerProcesses()
		for _, pid := range left {
			if !asked[pid] {
				asked[pid] = true
				_ = syscall.Kill(pid, syscall.SIGTERM) // gone already is as good
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return len(left)
		}
		time.Sleep(pollInterval)
	}
}

// containerProcesses lists the processes that are PID 1 of a pid namespace below the machine's: one per container,
// whoever started it. Containers in the machine's own pid namespace end with the machine.
func containerProcesses() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		status, err := os.ReadFile("/proc/" + entry.Name() + "/status")
		if err == nil && isContainerInit(string(status)) {
			found = append(found, pid)
		}
	}
	return found
}

func isContainerInit(status string) bool {
	for _, line := range strings.Split(status, "\n") {
		if strings.HasPrefix(line, "State:") && strings.Contains(line, "Z") {
			return false
		}
		if numbers, found := strings.CutPrefix(line, "NSpid:"); found {
			fields := strings.Fields(numbers)
			return len(fields) > 1 && fields[len(fields)-1] == "1"
		}
	}
	return false
}
