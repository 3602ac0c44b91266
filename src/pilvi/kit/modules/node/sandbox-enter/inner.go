package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// runInner builds the sandbox's root and becomes its init. It returns only when something failed.
func runInner(path string) error {
	doc, err := readDocument(path)
	if err != nil {
		return err
	}
	// Everything of the host is opened first: after the change of root no path of the host means anything, and no
	// symlink inside the sandbox can lead a mount out of it.
	sources := make([]source, len(doc.Binds))
	for i, one := range doc.Binds {
		if sources[i], err = openSource(one.Source); err != nil {
			return err
		}
	}
	nodes := hostDevices()
	cgroups, err := hierarchies()
	if err != nil {
		return err
	}
	oldRoot, err := enterRoot(doc)
	if err != nil {
		return err
	}
	if err := mountSystem(doc, nodes, cgroups); err != nil {
		return err
	}
	for i, one := range doc.Binds {
		if err := one.apply(sources[i]); err != nil {
			return err
		}
	}
	if err := leaveOldRoot(oldRoot); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(doc.Hostname)); err != nil {
		return fmt.Errorf("set host name %q: %w", doc.Hostname, err)
	}
	environment := doc.Environment
	if !hasPath(environment) {
		environment = append(environment, defaultPath)
	}
	if err := unix.Exec(doc.Init[0], doc.Init, environment); err != nil {
		return fmt.Errorf("start init %s: %w", doc.Init[0], err)
	}
	return nil
}

// enterRoot makes the overlay the root of this process and returns the old root, still mounted, as an open folder.
func enterRoot(doc *document) (int, error) {
	if err := mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return 0, err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", doc.Root, doc.Layer, doc.Work)
	if err := mount("overlay", doc.Mount, "overlay", 0, options); err != nil {
		return 0, err
	}
	oldRoot, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Chdir(doc.Mount); err != nil {
		return 0, err
	}
	// Both arguments the same: the old root ends up under the new one, and no folder for it is needed (pivot_root(2)).
	if err := unix.PivotRoot(".", "."); err != nil {
		return 0, fmt.Errorf("change root to %s: %w", doc.Mount, err)
	}
	return oldRoot, unix.Chdir("/")
}

func leaveOldRoot(oldRoot int) error {
	if err := unix.Fchdir(oldRoot); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	return unix.Chdir("/")
}

func mountSystem(doc *document, nodes map[string]uint64, cgroups []hierarchy) error {
	if err := mountProc(); err != nil {
		return err
	}
	if err := mountSys(cgroups); err != nil {
		return err
	}
	if err := mountDev(nodes); err != nil {
		return err
	}
	for _, one := range doc.Tmpfs {
		if err := os.MkdirAll(one.Target, 0o755); err != nil {
			return err
		}
		if err := mount("tmpfs", one.Target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, one.Options); err != nil {
			return err
		}
	}
	return nil
}

func hasPath(environment []string) bool {
	for _, entry := range environment {
		if strings.HasPrefix(entry, "PATH=") {
			return true
		}
	}
	return false
}
