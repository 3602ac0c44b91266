package main

import (
	"encoding/json"
	"log"
	"net"
	"os"
	"path/filepath"
)

const controlSocket = "/run/pilvi/init.sock"

// request is one systemctl call; reply its output and exit code.
type request struct {
	Verb string `json:"verb"`
	Unit string `json:"unit"`
}

type reply struct {
	Output string `json:"output"`
	Error  string `json:"error"`
	Code   int    `json:"code"`
}

func serveControl(services map[string]*service) error {
	if err := os.MkdirAll(filepath.Dir(controlSocket), 0o755); err != nil {
		return err
	}
	listener, err := net.Listen("unix", controlSocket)
	if err != nil {
		return err
	}
	if err := os.Chmod(controlSocket, 0o600); err != nil {
		return err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				log.Printf("systemctl: %v", err)
				return
			}
			go answer(connection, services)
		}
	}()
	return nil
}

func answer(connection net.Conn, services map[string]*service) {
	defer connection.Close()
	var asked request
	if err := json.NewDecoder(connection).Decode(&asked); err != nil {
		log.Printf("systemctl: %v", err)
		return
	}
	_ = json.NewEncoder(connection).Encode(carryOut(asked, services)) // the client went away
}

// carryOut does what systemctl would, with its words and exit codes where programs read them.
func carryOut(asked request, services map[string]*service) reply {
	if asked.Verb == "daemon-reload" {
		return reply{} // there are no unit files to read again
	}
	one, found := services[asked.Unit]
	if !found {
		return unknownUnit(asked)
	}
	switch asked.Verb {
	case "start":
		one.start()
	case "stop":
		one.stop(stopTimeout)
	case "restart":
		one.stop(stopTimeout)
		one.start()
	case "enable":
		// Both services are started at every boot.
	case "is-enabled":
		return reply{Output: "enabled\n"}
	case "is-active":
		return activity(one.state())
	case "status":
		state := one.state()
		result := activity(state)
		result.Output = asked.Unit + ".service\n     Loaded: loaded (node-init; enabled)\n     Active: " + state + "\n"
		return result
	}
	return reply{}
}

func activity(state string) reply {
	result := reply{Output: state + "\n"}
	if state != "active" {
		result.Code = 3
	}
	return result
}

// unknownUnit answers questions about other units as systemctl does, and refuses to act on them.
func unknownUnit(asked request) reply {
	switch asked.Verb {
	case "is-active":
		return reply{Output: "inactive\n", Code: 4}
	case "is-enabled":
		return reply{Output: "not-found\n", Code: 4}
	case "status":
		return reply{Error: "Unit " + asked.Unit + ".service could not be found.\n", Code: 4}
	}
	return reply{Error: "systemctl: this machine runs without systemd and has no unit " + asked.Unit + ", only containerd and kubelet\n", Code: 1}
}
