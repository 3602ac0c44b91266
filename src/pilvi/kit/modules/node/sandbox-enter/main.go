// Command sandbox-enter runs a root file system with an init of its own in namespaces, as one process of the host.
//
// It has two halves. The outer half is what the host starts and watches: already in the machine's network namespace and
// cgroup, it clones the inner half into new mount, pid, uts, ipc and cgroup namespaces, passes signals on and ends with
// the exit code of the init. The inner half builds the root and becomes the init. When the outer half dies, the kernel
// kills the init, and with it everything in the pid namespace.
//
// It knows nothing of what runs inside.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// document says what to run; the host writes it, one file per sandbox.
type document struct {
	Hostname    string   `json:"hostname"`
	Root        string   `json:"root"`  // lower folder of the overlay, never written
	Layer       string   `json:"layer"` // its upper folder
	Work        string   `json:"work"`
	Mount       string   `json:"mount"` // an empty folder on which the root is assembled
	Init        []string `json:"init"`
	Environment []string `json:"environment"`
	Tmpfs       []tmpfs  `json:"tmpfs"`
	Binds       []bind   `json:"binds"`
}

type tmpfs struct {
	Target  string `json:"target"`
	Options string `json:"options"`
}

type bind struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly"`
	Shared   bool   `json:"shared"`
}

// innerArgument marks the second half; nobody types it.
const innerArgument = "--inner"

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] != innerArgument:
		code, err := runOuter(os.Args[1])
		if err != nil {
			fail(err)
		}
		os.Exit(code)
	case len(os.Args) == 3 && os.Args[1] == innerArgument:
		fail(runInner(os.Args[2])) // returns only with an error
	default:
		fmt.Fprintln(os.Stderr, "usage: sandbox-enter DOCUMENT")
		os.Exit(2)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "sandbox-enter:", err)
	os.Exit(1)
}

func readDocument(path string) (*document, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	doc := new(document)
	if err := json.Unmarshal(content, doc); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(doc.Init) == 0 {
		return nil, fmt.Errorf("%s: field init is empty; it must name the program that becomes PID 1", path)
	}
	return doc, nil
}
