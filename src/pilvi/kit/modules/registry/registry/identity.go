package main

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"log"
	"os"
	"sync"
	"time"
)

const lookAgain = time.Second

// identity is the certificate with its key, taken up again when the files have changed.
type identity struct {
	certificateFile, keyFile string

	mutex    sync.Mutex
	pair     *tls.Certificate
	seed     []byte
	changed  time.Time
	lookedAt time.Time
}

func newIdentity(certificateFile, keyFile string) (*identity, error) {
	i := &identity{certificateFile: certificateFile, keyFile: keyFile}
	return i, i.read()
}

func (i *identity) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	if time.Since(i.lookedAt) > lookAgain {
		i.lookedAt = time.Now()
		if info, err := os.Stat(i.certificateFile); err != nil || info.ModTime() != i.changed {
			// They are two files, written in turn: two that do not match leave those in use.
			if err := i.read(); err != nil {
				log.Printf("the certificate cannot be read now: %v", err)
			}
		}
	}
	return i.pair, nil
}

// secret derives one for a purpose from the key that was there when the process began.
func (i *identity) secret(purpose string) string {
	sum := sha256.Sum256(append([]byte(purpose+"\x00"), i.seed...))
	return hex.EncodeToString(sum[:])
}

func (i *identity) read() error {
	info, err := os.Stat(i.certificateFile)
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(i.certificateFile, i.keyFile)
	if err != nil {
		return err
	}
	if i.seed == nil {
		if i.seed, err = os.ReadFile(i.keyFile); err != nil {
			return err
		}
	}
	i.pair, i.changed, i.lookedAt = &pair, info.ModTime(), time.Now()
	return nil
}
