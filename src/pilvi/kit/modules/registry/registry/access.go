package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/auth"
)

const (
	authName  = "pilvi"
	tokenPath = "/token"
	tokenLife = time.Hour
	service   = "registry"
)

var errNoAccess = errors.New("this needs the cloud's password")

// keeper says who may do what: everybody pulls, the one user does everything. It gives out tokens, since that is the one way by which all
// clients both pull without a name and push with one.
type keeper struct {
	user     string
	password string // file: SHA-256 of the password in hex
	identity *identity
}

func (k *keeper) register() error {
	return auth.Register(authName, func(map[string]any) (auth.AccessController, error) { return k, nil })
}

// Authorized implements auth.AccessController.
func (k *keeper) Authorized(r *http.Request, wanted ...auth.Access) (*auth.Grant, error) {
	mayPush, known := k.look(r)
	if mayPush {
		return &auth.Grant{User: auth.UserInfo{Name: k.user}}, nil
	}
	// Clients ask /v2/ how to log in, and never ask again; so it is closed to those who bring nothing.
	if len(wanted) == 0 && known || len(wanted) > 0 && onlyPulls(wanted) {
		return &auth.Grant{}, nil
	}
	return nil, challenge{wanted}
}

// look tells whether the request may push, and whether it brought a token or password of ours at all.
func (k *keeper) look(r *http.Request) (mayPush, known bool) {
	if _, _, ok := r.BasicAuth(); ok {
		may := k.knows(r)
		return may, may
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return false, false
	}
	words, sum, ok := strings.Cut(token, "~")
	if !ok || !hmac.Equal([]byte(sum), []byte(k.sign(words))) {
		return false, false
	}
	until, right, _ := strings.Cut(words, ".")
	seconds, err := strconv.ParseInt(until, 10, 64)
	if err != nil || time.Now().Unix() > seconds {
		return false, false
	}
	return right == "push", true
}

// knows tells whether the request has user and password.
func (k *keeper) knows(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	wanted, err := os.ReadFile(k.password)
	if !ok || err != nil {
		return false
	}
	sum := sha256.Sum256([]byte(password))
	found := []byte(hex.EncodeToString(sum[:]))
	return user == k.user && subtle.ConstantTimeCompare(found, []byte(strings.TrimSpace(string(wanted)))) == 1
}

// sign makes a token of a password worthless when that is changed, and one of this process good for the next.
func (k *keeper) sign(words string) string {
	password, err := os.ReadFile(k.password)
	if err != nil {
		password = nil // nobody can push then, and pulling needs no secret
	}
	sum := hmac.New(sha256.New, append([]byte(k.identity.secret("token")), password...))
	sum.Write([]byte(words))
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil))
}

func (k *keeper) serveToken(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "ask with GET")
		return
	}
	right := "pull"
	if _, _, ok := r.BasicAuth(); ok {
		if !k.knows(r) {
			fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "user or password is wrong")
			return
		}
		right = "push"
	}
	now := time.Now().UTC()
	words := fmt.Sprintf("%d.%s", now.Add(tokenLife).Unix(), right)
	token := words + "~" + k.sign(words)
	w.Header().Set("Content-Type", "application/json")
	// A client that hangs up does not hear it; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token": token, "access_token": token, "expires_in": int(tokenLife.Seconds()), "issued_at": now.Format(time.RFC3339),
	})
}

func onlyPulls(wanted []auth.Access) bool {
	for _, access := range wanted {
		if access.Action != "pull" {
			return false
		}
	}
	return true
}

type challenge struct{ wanted []auth.Access }

func (challenge) Error() string { return errNoAccess.Error() }

// SetHeaders implements auth.Challenge. The token server has the name by which the client came.
func (c challenge) SetHeaders(r *http.Request, w http.ResponseWriter) {
	header := fmt.Sprintf("Bearer realm=%q,service=%q", "https://"+r.Host+tokenPath, service)
	var scopes []string
	for _, access := range c.wanted {
		scopes = append(scopes, fmt.Sprintf("%s:%s:%s", access.Type, access.Name, access.Action))
	}
	if len(scopes) > 0 {
		header += fmt.Sprintf(",scope=%q", strings.Join(scopes, " "))
	}
	w.Header().Set("WWW-Authenticate", header)
}
