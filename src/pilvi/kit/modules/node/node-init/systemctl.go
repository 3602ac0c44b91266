package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
)

var verbs = []string{"start", "stop", "restart", "enable", "is-enabled", "is-active", "status", "daemon-reload"}

// ignoredOptions change how systemctl waits or prints; --now is the one with a meaning of its own.
var ignoredOptions = []string{"--quiet", "-q", "--no-pager", "--full", "-l", "--no-block", "--system"}

// runClient is systemctl for what this init can do; everything else is refused by name.
func runClient(arguments []string) int {
	var words []string
	quiet, now := false, false
	for _, argument := range arguments {
		switch {
		case argument == "--now":
			now = true
		case slices.Contains(ignoredOptions, argument):
			quiet = quiet || argument == "--quiet" || argument == "-q"
		case strings.HasPrefix(argument, "-"):
			return refuse("option " + argument)
		default:
			words = append(words, argument)
		}
	}
	if len(words) == 0 {
		return refuse("a call without a verb")
	}
	verb, units := words[0], words[1:]
	if !slices.Contains(verbs, verb) {
		return refuse("verb " + verb)
	}
	if verb == "daemon-reload" {
		units = []string{""}
	}
	if len(units) == 0 {
		return refuse(verb + " without a unit")
	}
	code := 0
	for _, unit := range units {
		asked := []request{{Verb: verb, Unit: strings.TrimSuffix(unit, ".service")}}
		if now && verb == "enable" {
			asked = append(asked, request{Verb: "start", Unit: asked[0].Unit})
		}
		for _, one := range asked {
			if answered := call(one, quiet); answered != 0 {
				code = answered
			}
		}
	}
	return code
}

func refuse(what string) int {
	fmt.Fprintf(os.Stderr, "systemctl: %s is not supported: this machine runs without systemd; there are %s for the units containerd and kubelet\n",
		what, strings.Join(verbs, ", "))
	return 1
}

func call(asked request, quiet bool) int {
	connection, err := net.Dial("unix", controlSocket)
	if err != nil {
		fmt.Fprintf(os.Stderr, "systemctl: the machine's init does not answer: %v\n", err)
		return 1
	}
	defer connection.Close()
	var answered reply
	if err := json.NewEncoder(connection).Encode(asked); err != nil {
		fmt.Fprintf(os.Stderr, "systemctl: %v\n", err)
		return 1
	}
	if err := json.NewDecoder(connection).Decode(&answered); err != nil {
		fmt.Fprintf(os.Stderr, "systemctl: the machine's init gave no answer: %v\n", err)
		return 1
	}
	if !quiet {
		fmt.Print(answered.Output)
	}
	fmt.Fprint(os.Stderr, answered.Error)
	return answered.Code
}
