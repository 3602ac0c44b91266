package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

// collector removes what no tag leads to. A push stores layers long before the manifest that names them, so it waits until nobody has
// pushed for a while, and lets nobody push meanwhile.
type collector struct {
	data   string
	idle   time.Duration
	driver driver.StorageDriver
	images distribution.Namespace

	writing   sync.RWMutex
	lastWrite atomic.Int64 // Unix nanoseconds
	needed    atomic.Bool
}

func newCollector(ctx context.Context, data string, idle time.Duration) (*collector, error) {
	store, err := filesystem.FromParameters(map[string]any{"rootdirectory": data})
	if err != nil {
		return nil, err
	}
	images, err := storage.NewRegistry(ctx, store, storage.EnableDelete)
	if err != nil {
		return nil, err
	}
	c := &collector{data: data, idle: idle, driver: store, images: images}
	c.lastWrite.Store(time.Now().UnixNano())
	c.needed.Store(true) // whoever ran before may have died between a deletion and this
	return c, nil
}

// beside keeps writers and the collector apart.
func (c *collector) beside(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A push asks by HEAD which layers it need not send.
		if !writes(r) && (r.Method != http.MethodHead || isManifest(r.URL.Path)) {
			next.ServeHTTP(w, r)
			return
		}
		c.writing.RLock()
		defer c.writing.RUnlock()
		c.lastWrite.Store(time.Now().UnixNano())
		next.ServeHTTP(w, r)
		c.lastWrite.Store(time.Now().UnixNano())
		if writes(r) {
			c.needed.Store(true)
		}
	})
}

func (c *collector) run(ctx context.Context) {
	ticker := time.NewTicker(max(c.idle/10, 100*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if c.needed.Load() && time.Since(time.Unix(0, c.lastWrite.Load())) > c.idle {
				c.collect(ctx)
			}
		}
	}
}

func (c *collector) collect(ctx context.Context) {
	if !c.writing.TryLock() { // an upload that takes long
		return
	}
	defer c.writing.Unlock()
	c.needed.Store(false)
	if _, err := os.Stat(filepath.Join(c.data, "docker/registry/v2/blobs")); os.IsNotExist(err) {
		return // nothing was ever pushed
	}
	began := time.Now()
	if err := storage.MarkAndSweep(ctx, c.driver, c.images, storage.GCOpts{RemoveUntagged: true, Quiet: true}); err != nil {
		log.Printf("what no tag leads to is not removed: %v", err)
		return
	}
	log.Printf("what no tag leads to is removed (%d ms)", time.Since(began).Milliseconds())
}

func isManifest(path string) bool { return strings.Contains(path, "/manifests/") }
