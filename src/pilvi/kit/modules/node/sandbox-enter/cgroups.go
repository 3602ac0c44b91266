package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// hierarchy is one line of /proc/self/cgroup: for version 1 its controllers or its name, for version 2 nothing.
type hierarchy struct {
	controllers string
	path        string
}

func (h hierarchy) unified() bool { return h.controllers == "" }

// hierarchies lists those that are in use. It needs the host's /sys. The kernel names version 2 even where only version 1
// is mounted.
func hierarchies() ([]hierarchy, error) {
	content, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var found []hierarchy
	for _, line := range strings.Split(strings.TrimSpace(string(content)), "\n") {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("/proc/self/cgroup: line %q has not three fields", line)
		}
		one := hierarchy{controllers: fields[1], path: fields[2]}
		if one.unified() && len(found) > 0 {
			if _, err := os.Stat(filepath.Join(one.folder(), "cgroup.procs")); err != nil {
				continue
			}
		}
		found = append(found, one)
	}
	return found, nil
}

// folder is where the sandbox has the hierarchy, the same place as on the host.
func (h hierarchy) folder() string {
	if h.unified() {
		return filepath.Join(cgroupRoot, "unified")
	}
	return filepath.Join(cgroupRoot, strings.TrimPrefix(h.controllers, "name="))
}

// enterMachineCgroup prepares the cgroups that the init starts in. Whoever starts this program has put it into a new
// cgroup of its own in every hierarchy; without that the sandbox would see, and write, the host's.
//
// On a host with cgroup version 2 only, a cgroup that gives controllers to its children may hold no process, so the init
// starts in the child "machine", the root of its cgroup namespace, and this process then waits beside it in
// "supervisor". The returned function does that second move.
func enterMachineCgroup() (func() error, error) {
	found, err := hierarchies()
	if err != nil {
		return nil, err
	}
	for _, one := range found {
		if one.path == "/" {
			return nil, fmt.Errorf("this process is in the root cgroup of hierarchy %q; start it in one of its own", one.controllers)
		}
	}
	if len(found) != 1 || !found[0].unified() {
		return func() error { return nil }, nil
	}
	own := filepath.Join(cgroupRoot, found[0].path)
	if err := moveSelf(filepath.Join(own, "machine")); err != nil {
		return nil, err
	}
	return func() error {
		if err := moveSelf(filepath.Join(own, "supervisor")); err != nil {
			return err
		}
		return delegate(own)
	}, nil
}

func moveSelf(cgroup string) error {
	if err := os.MkdirAll(cgroup, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte("0"), 0o644)
}

// delegate hands all controllers of a version 2 cgroup to its children.
func delegate(cgroup string) error {
	content, err := os.ReadFile(filepath.Join(cgroup, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, controller := range strings.Fields(string(content)) {
		control := filepath.Join(cgroup, "cgroup.subtree_control")
		if err := os.WriteFile(control, []byte("+"+controller), 0o644); err != nil {
			return fmt.Errorf("delegate cgroup controller %s: %w", controller, err)
		}
	}
	return nil
}

// mountCgroups mounts the host's hierarchies anew inside the cgroup namespace, so that each shows the sandbox's own
// cgroup as its root. A hybrid host gets the same layout: version 1 folders with version 2 below "unified".
func mountCgroups(found []hierarchy) error {
	if len(found) == 1 && found[0].unified() {
		if err := mount("cgroup2", cgroupRoot, "cgroup2", hardened, ""); err != nil {
			return err
		}
		// The root of the namespace is a plain cgroup of the host: it must be empty before its controllers can be used.
		return moveSelf(filepath.Join(cgroupRoot, "init"))
	}
	if err := mount("cgroup", cgroupRoot, "tmpfs", hardened, "mode=755,size=64k"); err != nil {
		return err
	}
	for _, one := range found {
		if err := mountHierarchy(one); err != nil {
			return err
		}
	}
	return remount(cgroupRoot, unix.MS_RDONLY|hardened)
}

func mountHierarchy(one hierarchy) error {
	kind, options := "cgroup", one.controllers
	if one.unified() {
		kind = "cgroup2"
	} else if strings.HasPrefix(one.controllers, "name=") {
		options = "none," + one.controllers
	}
	folder := one.folder()
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	if err := mount("cgroup", folder, kind, hardened, options); err != nil {
		return err
	}
	// Controllers that share a hierarchy are also looked for by their single names.
	if strings.Contains(one.controllers, ",") {
		for _, controller := range strings.Split(one.controllers, ",") {
			if err := os.Symlink(one.controllers, filepath.Join(cgroupRoot, controller)); err != nil {
				return err
			}
		}
	}
	return nil
}
