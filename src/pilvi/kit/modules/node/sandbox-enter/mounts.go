package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const hardened = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

func mount(source, target, kind string, flags uintptr, options string) error {
	if err := unix.Mount(source, target, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s on %s (type %s, options %q): %w", source, target, kind, options, err)
	}
	return nil
}

func remount(target string, flags uintptr) error {
	return mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
}

// source is a file or folder of the host, held open while the host's file system is still in sight.
type source struct {
	fd     int
	folder bool
}

func openSource(path string) (source, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return source{}, fmt.Errorf("open %s: %w", path, err)
	}
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return source{}, fmt.Errorf("stat %s: %w", path, err)
	}
	return source{fd: fd, folder: info.Mode&unix.S_IFMT == unix.S_IFDIR}, nil
}

func (s source) mountOn(target string) error {
	return mount(fmt.Sprintf("/proc/self/fd/%d", s.fd), target, "", unix.MS_BIND|unix.MS_REC, "")
}

func (b bind) apply(from source) error {
	if err := ensureTarget(b.Target, from.folder); err != nil {
		return err
	}
	if err := from.mountOn(b.Target); err != nil {
		return err
	}
	if b.ReadOnly {
		if err := remount(b.Target, unix.MS_RDONLY); err != nil {
			return err
		}
	}
	if b.Shared {
		return mount("", b.Target, "", unix.MS_SHARED|unix.MS_REC, "")
	}
	return nil
}

func ensureTarget(path string, folder bool) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if folder {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

// mountProc mounts /proc with the host-wide settings write-protected. Settings below net belong to the network
// namespace, so those stay writable.
func mountProc() error {
	if err := os.MkdirAll("/proc", 0o755); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", hardened, ""); err != nil {
		return err
	}
	network, err := openSource("/proc/sys/net")
	if err != nil {
		return err
	}
	defer unix.Close(network.fd)
	if err := mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := remount("/proc/sys", unix.MS_RDONLY|hardened); err != nil {
		return err
	}
	return network.mountOn("/proc/sys/net")
}

// mountSys mounts a sysfs that shows the links of this network namespace (a copy of the host's mount would show the
// host's), read-only, and the sandbox's own cgroups in it.
func mountSys(found []hierarchy) error {
	if err := os.MkdirAll("/sys", 0o755); err != nil {
		return err
	}
	if err := mount("sysfs", "/sys", "sysfs", hardened|unix.MS_RDONLY, ""); err != nil {
		return err
	}
	return mountCgroups(found)
}

// devices are the nodes of /dev, made like the host's; one that the host lacks is left out.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty", "kmsg", "fuse", "net/tun"}

// mountDev makes a small /dev of its own: neither the host's terminals nor its disks are in it.
func mountDev(host map[string]uint64) error {
	if err := os.MkdirAll("/dev", 0o755); err != nil {
		return err
	}
	if err := mount("dev", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=64k"); err != nil {
		return err
	}
	unix.Umask(0)
	defer unix.Umask(0o022)
	for name, number := range host {
		path := filepath.Join("/dev", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(number)); err != nil {
			return fmt.Errorf("make device %s: %w", path, err)
		}
	}
	for _, folder := range []string{"/dev/pts", "/dev/shm", "/dev/mqueue"} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
	}
	if err := mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"); err != nil {
		return err
	}
	if err := mount("shm", "/dev/shm", "tmpfs", hardened, "mode=1777"); err != nil {
		return err
	}
	if err := mount("mqueue", "/dev/mqueue", "mqueue", hardened, ""); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join("/dev", name)); err != nil {
			return err
		}
	}
	return nil
}

// hostDevices reads the device numbers while the host's /dev is still in sight.
func hostDevices() map[string]uint64 {
	found := map[string]uint64{}
	for _, name := range devices {
		var info unix.Stat_t
		if err := unix.Stat("/dev/"+name, &info); err == nil && info.Mode&unix.S_IFMT == unix.S_IFCHR {
			found[name] = info.Rdev
		}
	}
	return found
}
