package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	pace     = 100 * time.Millisecond
	patience = 5 * time.Second // with one login or one question
)

// attempt is what came of one time: an error is why it did not work.
type attempt struct {
	at          time.Time
	login, held error
}

// service writes its attempts down by the connection that it keeps. What it
// cannot write down at once it does as soon as that is possible again.
type service struct {
	pod     string
	held    *pgx.Conn // nil: there is none
	waiting []attempt
	ready   atomic.Bool // the last login worked
}

// login goes on until ctx ends, and then ends in order.
func login(ctx context.Context) error {
	s := &service{pod: os.Getenv("HOSTNAME")}
	if err := again(ctx, &s.ready, s.look); err != nil {
		return err
	}
	return s.end()
}

// again does something ten times a second until ctx ends. It answers on port 8080
// whether the last time went well, for a readiness probe.
func again(ctx context.Context, ready *atomic.Bool, do func(context.Context)) error {
	ended := make(chan error, 1)
	server := serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			http.Error(w, "the last time did not go well", http.StatusServiceUnavailable)
		}
	}), ended)
	defer server.Close()
	for ticks := time.NewTicker(pace); ; {
		do(context.WithoutCancel(ctx)) // one that was begun is finished: its end would be no failure
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

// serve on port 8080; why that ended is sent.
func serve(handler http.Handler, ended chan<- error) *http.Server {
	server := &http.Server{Addr: ":8080", Handler: handler, ReadHeaderTimeout: patience}
	go func() { ended <- server.ListenAndServe() }()
	return server
}

func (s *service) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	now := attempt{at: time.Now()}
	connection, err := s.connect(ctx)
	if err == nil {
		err = errors.Join(connection.Ping(ctx), connection.Close(ctx))
	}
	now.login = err
	s.ready.Store(err == nil)
	now.held = s.ask(ctx)
	s.waiting = append(s.waiting, now)
	for what, err := range map[string]error{"login": now.login, "held connection": now.held} {
		if err != nil {
			fmt.Println(now.at.UTC().Format(time.RFC3339Nano), what, err)
		}
	}
	s.write(ctx)
}

func (s *service) connect(ctx context.Context) (*pgx.Conn, error) {
	user, err := content(os.Getenv("USER_FILE"))
	if err != nil {
		return nil, err
	}
	password, err := content(os.Getenv("PASSWORD_FILE"))
	if err != nil {
		return nil, err
	}
	return connect(ctx, user, password)
}

// ask uses the connection that is held. Before there is one, that it cannot be
// made is the login's failure; afterwards it is the connection's.
func (s *service) ask(ctx context.Context) error {
	if s.held == nil {
		s.held, _ = s.connect(ctx)
		return nil
	}
	err := s.held.Ping(ctx)
	if err != nil {
		_ = s.held.Close(ctx)
		s.held = nil
	}
	return err
}

func (s *service) write(ctx context.Context) {
	for s.held != nil && len(s.waiting) > 0 {
		a := s.waiting[0]
		_, err := s.held.Exec(ctx, "INSERT INTO attempts (pod, at, login, held) VALUES ($1, $2, $3, $4)", s.pod, a.at, text(a.login), text(a.held))
		if err != nil {
			fmt.Println("writing down an attempt:", err)
			return
		}
		s.waiting = s.waiting[1:]
	}
}

func text(err error) *string {
	if err == nil {
		return nil
	}
	said := err.Error()
	return &said
}

func (s *service) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.write(ctx)
	fmt.Println("told to end,", len(s.waiting), "attempts are not written down")
	if s.held == nil {
		return nil
	}
	return s.held.Close(ctx)
}
