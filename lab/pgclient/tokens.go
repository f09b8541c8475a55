package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
)

// issuer takes two tokens at most. It keeps them in memory alone.
type issuer struct {
	lock    sync.Mutex
	takes   []string // the oldest first
	clients map[string]*count
}

// count is what came of a client's requests.
type count struct {
	taken, refused int
	failed         string // as the client itself counts
}

// tokens serves until ctx ends. GET / takes a token; POST /tokens adds one and
// forgets the oldest of three, DELETE /tokens forgets one; GET /clients has a line
// for each client: its name, and how often it was taken, was refused, and failed.
func tokens(ctx context.Context) error {
	i := &issuer{takes: []string{os.Getenv("TOKEN")}, clients: map[string]*count{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", i.take)
	mux.HandleFunc("POST /tokens", i.change(func(token string) {
		if slices.Contains(i.takes, token) {
			return
		}
		i.takes = append(i.takes, token)
		i.takes = i.takes[max(0, len(i.takes)-2):]
	}))
	mux.HandleFunc("DELETE /tokens", i.change(func(token string) {
		i.takes = slices.DeleteFunc(i.takes, func(taken string) bool { return taken == token })
	}))
	mux.HandleFunc("GET /clients", i.tell)
	ended := make(chan error, 1)
	defer serve(mux, ended).Close()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (i *issuer) take(w http.ResponseWriter, r *http.Request) {
	i.lock.Lock()
	defer i.lock.Unlock()
	name := r.Header.Get("Client")
	if i.clients[name] == nil {
		i.clients[name] = &count{}
	}
	of := i.clients[name]
	of.failed = r.Header.Get("Failed")
	if !slices.Contains(i.takes, r.Header.Get("Token")) {
		of.refused++
		http.Error(w, "this token is not one of mine", http.StatusUnauthorized)
		return
	}
	of.taken++
}

// change the tokens by the one that a request has.
func (i *issuer) change(by func(token string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, err := io.ReadAll(io.LimitReader(r.Body, 4096))
		if err != nil || len(token) == 0 {
			http.Error(w, "want a token", http.StatusBadRequest)
			return
		}
		i.lock.Lock()
		defer i.lock.Unlock()
		by(string(token))
	}
}

func (i *issuer) tell(w http.ResponseWriter, _ *http.Request) {
	i.lock.Lock()
	defer i.lock.Unlock()
	for _, name := range slices.Sorted(maps.Keys(i.clients)) {
		of := i.clients[name]
		fmt.Fprintln(w, name, of.taken, of.refused, of.failed)
	}
}

// ask the service something; whatever is not in order is an error.
func ask(ctx context.Context, method, path, body string, header map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, os.Getenv("SERVICE")+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(io.LimitReader(response.Body, 512))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(said)))
	}
	return err
}
