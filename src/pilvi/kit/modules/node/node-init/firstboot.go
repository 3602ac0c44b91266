package main

import (
	"log"
	"os"
	"strconv"
	"time"
)

const (
	firstBootScript  = "/var/lib/pilvi/first-boot.sh"
	firstBootStarted = "/var/lib/pilvi/first-boot.started"
	firstBootDone    = "/var/lib/pilvi/first-boot.done" // holds the exit code
	firstBootLog     = "/var/log/first-boot.log"
	containerdWait   = 60 * time.Second
)

// firstBoot carries out the bootstrap script once in the life of the writable layer. A failed script is not repeated, as
// cloud-init would not; one that was cut short (power, kill) is undone as far as kubeadm knows how, and run again.
func firstBoot(r *reaper) {
	if exists(firstBootDone) || !exists(firstBootScript) {
		return
	}
	deadline := time.Now().Add(containerdWait)
	for !containerdAnswers() && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	output, err := os.OpenFile(firstBootLog, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		log.Printf("first boot: %v", err)
		return
	}
	defer output.Close()
	if exists(firstBootStarted) {
		log.Print("first boot was cut short; kubeadm resets the node before it is repeated")
		runScript(r, []string{"/usr/bin/kubeadm", "reset", "--force"}, output)
	}
	if err := writeDurably(firstBootStarted, ""); err != nil {
		log.Printf("first boot: %v", err)
		return
	}
	started := time.Now()
	code := runScript(r, []string{"/bin/sh", firstBootScript}, output)
	if err := writeDurably(firstBootDone, strconv.Itoa(code)+"\n"); err != nil {
		log.Printf("first boot: %v", err)
	}
	if code != 0 {
		log.Printf("first boot failed with exit code %d after %.1f s; the end of %s:\n%s",
			code, time.Since(started).Seconds(), firstBootLog, lastLines(firstBootLog, 20))
		return
	}
	// The script holds the join token; it has served.
	if err := os.Remove(firstBootScript); err != nil {
		log.Printf("first boot: %v", err)
	}
	log.Printf("first boot finished after %.1f s", time.Since(started).Seconds())
}

func runScript(r *reaper, argv []string, output *os.File) int {
	_, status, err := r.run(argv, os.Environ(), output)
	if err != nil {
		log.Printf("%s: %v", argv[0], err)
		return 127
	}
	ended := <-status
	if ended.Signaled() {
		return 128 + int(ended.Signal())
	}
	return ended.ExitStatus()
}

// writeDurably writes a small file that must not be lost or seen empty after a power cut.
func writeDurably(path, content string) error {
	temporary := path + ".new"
	file, err := os.Create(temporary)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.WriteString(content); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
