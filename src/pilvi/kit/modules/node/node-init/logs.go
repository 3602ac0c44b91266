package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"time"
)

const (
	logFolder   = "/var/log"
	logLimit    = 10 << 20
	logInterval = time.Minute
)

// openLog opens the log of a service for appending; a process keeps it open, so it is cut while in use (see trimLogs).
func openLog(name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(logFolder, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
}

// trimLogs keeps each log below a limit: the present text goes to NAME.log.1 and the file, which the service holds open
// for appending, is emptied. Lines written in between are lost; the machine's disk is not filled.
func trimLogs(names ...string) {
	for range time.Tick(logInterval) {
		for _, name := range names {
			trimLog(filepath.Join(logFolder, name+".log"), logLimit)
		}
	}
}

func trimLog(path string, limit int64) {
	info, err := os.Stat(path)
	if err != nil || info.Size() < limit {
		return
	}
	from, err := os.Open(path)
	if err != nil {
		return
	}
	defer from.Close()
	to, err := os.Create(path + ".1")
	if err != nil {
		return
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err == nil {
		_ = os.Truncate(path, 0)
	}
}

// lastLines returns the end of a file for a message.
func lastLines(path string, count int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-count):], []byte("\n")))
}
