// probe is the one program in the image of the test pods: a web server, a validating webhook, and small clients.
// It needs nothing but itself, so the image needs no registry and no distribution.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: probe serve | webhook CERT KEY | fetch URL | resolve NAME | sleep")
	}
	switch command, arguments := os.Args[1], os.Args[2:]; command {
	case "serve":
		go endOnTerm()
		serve()
	case "webhook":
		go endOnTerm()
		webhook(arguments[0], arguments[1])
	case "fetch":
		fetch(arguments[0])
	case "resolve":
		resolve(arguments[0])
	case "sleep":
		endOnTerm()
	default:
		log.Fatalf("unknown command %q", command)
	}
}

// serve answers with the pod's name, and logs each request.
func serve() {
	name, err := os.Hostname()
	check(err)
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		log.Printf("request %s from %s", r.URL.Path, r.RemoteAddr)
		fmt.Fprintln(w, name)
	})
	check(http.ListenAndServe(":8080", nil))
}

// webhook refuses every object that has the label "refuse".
func webhook(certificate, key string) {
	type review struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Response   map[string]any `json:"response"`
		Request    *struct {
			UID    string `json:"uid"`
			Object struct {
				Metadata struct {
					Labels map[string]string `json:"labels"`
				} `json:"metadata"`
			} `json:"object"`
		} `json:"request,omitempty"`
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var asked review
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.Request == nil {
			http.Error(w, "no AdmissionReview", http.StatusBadRequest)
			return
		}
		_, refuse := asked.Request.Object.Metadata.Labels["refuse"]
		asked.Response = map[string]any{
			"uid":     asked.Request.UID,
			"allowed": !refuse,
			"status":  map[string]string{"message": "the probe refuses this"},
		}
		asked.Request = nil
		check(json.NewEncoder(w).Encode(asked))
	})
	check(http.ListenAndServeTLS(":8443", certificate, key, nil))
}

// fetch prints the body of an answer with code 200.
func fetch(url string) {
	client := http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}},
	}
	answer, err := client.Get(url)
	check(err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		log.Fatalf("%s answers %s", url, answer.Status)
	}
	_, err = io.Copy(os.Stdout, answer.Body)
	check(err)
}

// resolve prints the addresses of a name.
func resolve(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	check(err)
	for _, address := range addresses {
		fmt.Println(address)
	}
}

// endOnTerm ends the process as soon as it is told to; PID 1 of a container gets no default action.
func endOnTerm() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
	os.Exit(0)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
