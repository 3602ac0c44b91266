// Command registry is the registry of a cloud: distribution's own handlers and storage, with what a cloud wants around them.
//
// Everybody pulls, whoever has the cloud's password pushes; upstream's programs know that only with a token server of one's own, so one is
// in here. Certificate and password are read again when they change, a disk that is nearly full takes nothing more, and what no tag
// leads to is removed once nobody has pushed for a while.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/sirupsen/logrus"
)

const (
	headerTimeout = 20 * time.Second
	idleTimeout   = 2 * time.Minute
	stopTimeout   = 3 * time.Second
	mostSaid      = 400
)

func main() {
	address := flag.String("address", "", "address and port to listen on")
	folder := flag.String("folder", "", "folder with tls.crt, tls.key, password and data/")
	user := flag.String("user", "pilvi", "who may push")
	idle := flag.Duration("idle", 10*time.Minute, "how long nobody may have pushed before what no tag leads to is removed")
	reserve := flag.Int64("reserve-mb", 256, "what is left free on the disk")
	flag.Parse()
	log.SetFlags(log.LstdFlags | log.LUTC | log.Lmsgprefix)
	logrus.SetLevel(logrus.FatalLevel) // distribution tells an error for each layer that a push asks for; see told
	if err := run(*address, *folder, *user, *idle, *reserve<<20); err != nil {
		log.Fatalf("registry: %v", err)
	}
}

func run(address, folder, user string, idle time.Duration, reserve int64) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	identity, err := newIdentity(filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key"))
	if err != nil {
		return err
	}
	keeper := &keeper{user: user, password: filepath.Join(folder, "password"), identity: identity}
	if err := keeper.register(); err != nil {
		return err
	}
	data := filepath.Join(folder, "data")
	app := handlers.NewApp(ctx, settings(data, identity.secret("upload")))
	collector, err := newCollector(ctx, data, idle)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc(tokenPath, keeper.serveToken)
	mux.Handle("/v2/", told(spared(data, reserve, collector.beside(app))))
	server := &http.Server{
		Addr:              address,
		Handler:           mux,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: identity.get},
		ErrorLog:          log.New(quiet{}, "", 0),
	}
	go collector.run(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServeTLS("", "") }()
	log.Printf("serving %s on %s", data, address)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := server.Shutdown(last); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return app.Shutdown()
}

// settings is what distribution's own configuration file would say.
func settings(data, secret string) *configuration.Configuration {
	config := &configuration.Configuration{
		Storage: configuration.Storage{
			"filesystem": configuration.Parameters{"rootdirectory": data},
			"delete":     configuration.Parameters{"enabled": true},
			// Half of an image stays for a day, so that a push that broke off can go on.
			"maintenance": configuration.Parameters{
				"uploadpurging": map[any]any{"enabled": true, "age": "24h", "interval": "6h", "dryrun": false},
			},
		},
		Auth: configuration.Auth{authName: configuration.Parameters{}},
	}
	config.HTTP.Secret = secret
	config.HTTP.RelativeURLs = true
	config.Catalog.MaxEntries = 1000
	config.Tags.MaxTags = 1000
	config.Validation.Manifests.URLs.Deny = []string{".*"}
	return config
}

// quiet drops what net/http says of each client that does not know the cloud's authority.
type quiet struct{}

func (quiet) Write(line []byte) (int, error) { return len(line), nil }

// told writes a line to the log for what changes something, and for what fails on our side.
func told(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &answer{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		stored := r.Method == http.MethodPut && answer.status == http.StatusCreated && isManifest(r.URL.Path)
		if stored || r.Method == http.MethodDelete || answer.status >= http.StatusInternalServerError {
			log.Printf("%s %s from %s: %d %s", r.Method, r.URL.Path, r.RemoteAddr, answer.status, answer.said)
		}
	})
}

type answer struct {
	http.ResponseWriter
	status int
	said   []byte // of a failure, the beginning
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(data []byte) (int, error) {
	if a.status >= http.StatusInternalServerError && len(a.said) == 0 {
		a.said = bytes.TrimSpace(data[:min(len(data), mostSaid)])
	}
	return a.ResponseWriter.Write(data)
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// spared refuses what would leave less than the reserve on the disk: the cloud's own data lies there too.
func spared(data string, reserve int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if writes(r) && r.Method != http.MethodDelete {
			var disk syscall.Statfs_t
			if err := syscall.Statfs(data, &disk); err == nil {
				free := int64(disk.Bavail)*disk.Bsize - reserve
				if max(r.ContentLength, 0) > free {
					fail(w, http.StatusInsufficientStorage, "DENIED",
						fmt.Sprintf("the registry's disk is full: %d MB may be stored, and %d MB are to come", max(free, 0)>>20, max(r.ContentLength, 0)>>20))
					return
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}

func writes(r *http.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// fail answers as distribution's specification wants errors.
func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, "{\"errors\":[{\"code\":%q,\"message\":%q}]}\n", code, message)
}
