package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// present goes on until ctx ends. How often it failed it tells the service, which
// does not know of requests that never came.
func present(ctx context.Context) error {
	var ready atomic.Bool
	failed := 0
	return again(ctx, &ready, func(ctx context.Context) {
		err := ask(ctx, http.MethodGet, "/", "", map[string]string{
			"Token": os.Getenv("TOKEN"), "Client": os.Getenv("HOSTNAME"), "Failed": strconv.Itoa(failed),
		})
		if err != nil {
			failed++
			fmt.Println(time.Now().UTC().Format(time.RFC3339Nano), err)
		}
		ready.Store(err == nil)
	})
}

// token is one of a hook's, which it cannot do without.
func (f folder) token(which string) (string, error) {
	token, err := f.value(which, "token")
	if err == nil && token == "" {
		err = errors.New(which + "/token is missing")
	}
	return token, err
}

// add a token, or forget it where the rotation is taken back. Both may be done twice.
func add(ctx context.Context, f folder) error {
	method, which := http.MethodPost, "new"
	if os.Getenv("PRIVYSEAL_HOOK") == "set-back" {
		method, which = http.MethodDelete, "old"
	}
	token, err := f.token(which)
	if err != nil {
		return err
	}
	return ask(ctx, method, "/tokens", token, nil)
}

func try(ctx context.Context, f folder) error {
	token, err := f.token("new")
	if err != nil {
		return err
	}
	return ask(ctx, http.MethodGet, "/", "", map[string]string{"Token": token, "Client": "verify", "Failed": "0"})
}
