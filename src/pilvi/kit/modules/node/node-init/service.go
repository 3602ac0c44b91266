package main

import (
	"log"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	shortestBackoff = 200 * time.Millisecond
	longestBackoff  = 10 * time.Second
	steadyAfter     = 30 * time.Second // a service that ran this long starts again without delay
	readyInterval   = 50 * time.Millisecond
	stopTimeout     = 10 * time.Second
)

// service keeps one process running while it is wanted.
type service struct {
	name    string
	reaper  *reaper
	command func() ([]string, error) // read at every start: what it depends on may have changed
	ready   func() bool              // whether starting makes sense yet

	mutex   sync.Mutex
	wanted  bool
	pid     int // 0 when not running
	running chan struct{}
	changed chan struct{} // closed and replaced at every change of wanted
}

func newService(r *reaper, name string, command func() ([]string, error), ready func() bool) *service {
	s := &service{name: name, reaper: r, command: command, ready: ready, changed: make(chan struct{})}
	go s.supervise()
	return s
}

func (s *service) start() { s.want(true) }

func (s *service) want(wanted bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.wanted != wanted {
		s.wanted = wanted
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// stop ends the process and returns when it is gone: SIGTERM, and SIGKILL after timeout.
func (s *service) stop(timeout time.Duration) {
	s.want(false)
	s.mutex.Lock()
	pid, running := s.pid, s.running
	s.mutex.Unlock()
	if pid == 0 {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGTERM) // gone already: running is closed
	select {
	case <-running:
	case <-time.After(timeout):
		log.Printf("%s did not end within %v and is killed", s.name, timeout)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		<-running
	}
}

// state is what systemctl is-active prints.
func (s *service) state() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	switch {
	case s.pid != 0 && s.wanted:
		return "active"
	case s.pid != 0:
		return "deactivating"
	case s.wanted:
		return "activating"
	}
	return "inactive"
}

func (s *service) observe() (bool, <-chan struct{}) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.wanted, s.changed
}

func (s *service) supervise() {
	backoff := shortestBackoff
	for {
		wanted, changed := s.observe()
		if !wanted {
			backoff = shortestBackoff
			<-changed
			continue
		}
		if !s.ready() {
			pause(readyInterval, changed)
			continue
		}
		started := time.Now()
		s.runOnce()
		if wanted, changed = s.observe(); !wanted {
			continue
		}
		if time.Since(started) > steadyAfter {
			backoff = shortestBackoff
		}
		pause(backoff, changed)
		backoff = min(2*backoff, longestBackoff)
	}
}

func (s *service) runOnce() {
	argv, err := s.command()
	if err != nil {
		log.Printf("%s cannot start: %v", s.name, err)
		return
	}
	output, err := openLog(s.name)
	if err != nil {
		log.Printf("%s cannot start: %v", s.name, err)
		return
	}
	s.mutex.Lock()
	if !s.wanted {
		s.mutex.Unlock()
		output.Close()
		return
	}
	pid, status, err := s.reaper.run(argv, os.Environ(), output)
	output.Close()
	if err != nil {
		s.mutex.Unlock()
		log.Printf("%s cannot start: %v", s.name, err)
		return
	}
	s.pid, s.running = pid, make(chan struct{})
	running := s.running
	s.mutex.Unlock()
	log.Printf("%s started, pid %d", s.name, pid)

	ended := <-status
	s.mutex.Lock()
	s.pid = 0
	s.mutex.Unlock()
	close(running)
	log.Printf("%s ended: %s", s.name, describe(ended))
}

func pause(duration time.Duration, changed <-chan struct{}) {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	}
}
