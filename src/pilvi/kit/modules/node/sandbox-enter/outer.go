package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// sigPowerOff is SIGRTMIN+4, on which systemd as PID 1 powers off; other inits take SIGTERM.
const sigPowerOff = syscall.Signal(38)

// runOuter starts the inner half and returns the exit code of the init, or 128 plus the signal that ended it.
func runOuter(path string) (int, error) {
	// The death signal of a child is tied to the thread that made it.
	runtime.LockOSThread()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, sigPowerOff)

	leave, err := enterMachineCgroup()
	if err != nil {
		return 0, err
	}
	command := exec.Command("/proc/self/exe", innerArgument, path)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP,
		Pdeathsig:  unix.SIGKILL,
		Setsid:     true,
	}
	if err := command.Start(); err != nil {
		return 0, err
	}
	if err := leave(); err != nil {
		return 0, err
	}
	go func() {
		for received := range signals {
			_ = command.Process.Signal(received) // an init that has just ended needs no signal
		}
	}()
	err = command.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	status := command.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}
