package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The control socket takes one line, "verb [server or time]", and answers with JSON
// lines: any number of texts, then the end.
type answer struct {
	Text  string `json:"text,omitempty"`
	End   bool   `json:"end,omitempty"`
	Error string `json:"error,omitempty"`
}

const socketName = "control.sock"

// atSocket calls with the socket's address by way of an open folder: a socket's
// own path has room for 107 bytes only, less than some state folders have.
func atSocket(stateFolder string, do func(address string) error) error {
	dir, err := os.Open(stateFolder)
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), socketName))
}

func (s *supervisor) listen(ctx context.Context) error {
	state := s.plan.Config.State
	if err := os.Remove(filepath.Join(state, socketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var listener net.Listener
	err := atSocket(state, func(address string) (err error) {
		old := syscall.Umask(0o177)
		defer syscall.Umask(old)
		listener, err = new(net.ListenConfig).Listen(ctx, "unix", address)
		return err
	})
	if err != nil {
		return err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			s.story.readers.Add(1)
			go func() {
				defer s.story.readers.Done()
				s.serve(ctx, connection)
			}()
		}
	}()
	return nil
}

func (s *supervisor) serve(ctx context.Context, connection net.Conn) {
	defer connection.Close()
	line, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return
	}
	out := json.NewEncoder(connection)
	verb, name, _ := strings.Cut(strings.TrimSpace(line), " ")
	end := answer{End: true}
	if err := s.obey(ctx, verb, name, func(text string) { out.Encode(answer{Text: text}) }); err != nil {
		end.Error = err.Error()
	}
	out.Encode(end)
}

func (s *supervisor) obey(ctx context.Context, verb, name string, say func(string)) error {
	switch verb {
	case "follow": // the start's progress
		return s.story.read(ctx, say)
	case "await": // its end only
		return s.story.read(ctx, func(string) {})
	case "status":
		s.status(say)
		return nil
	case "seal":
		return s.vault.seal(ctx)
	case "unseal":
		return s.vault.unseal(ctx)
	case "stop", "start", "kill", "pause", "resume":
		return s.order(ctx, verb, name, say)
	case "slow":
		return s.slow(ctx, "vault", name)
	}
	return fmt.Errorf("%s: unknown order", verb)
}

func (s *supervisor) order(ctx context.Context, verb, name string, say func(string)) error {
	p := s.fleet.get(name)
	if p == nil {
		return fmt.Errorf("%s: this lab has no such server", name)
	}
	if err := p.obey(ctx, verb); err != nil || verb != "start" {
		return err
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := until(limited, 20*time.Millisecond, func(context.Context) error { return p.settled() })
	if err == nil {
		say(fmt.Sprintf("%s (%.1f s)", name, time.Since(began).Seconds()))
	}
	return err
}

func (s *supervisor) status(say func(string)) {
	say(fmt.Sprintf("up since %s", s.started.Format(time.DateTime)))
	for _, p := range s.fleet.list() {
		now := p.state.Load()
		ready := "ready"
		if p.settled() != nil {
			ready = "not ready"
		}
		say(fmt.Sprintf("%-24s %-10s %-9s pid %-6d restarts %d", p.name, now.word, ready, now.pid, now.restarts))
	}
}

var errDown = errors.New("no lab is up; lab up starts one")

// ask gives an order to a lab's supervisor and prints its answer.
func ask(ctx context.Context, stateFolder, order string, out io.Writer) error {
	var connection net.Conn
	err := atSocket(stateFolder, func(address string) (err error) {
		connection, err = new(net.Dialer).DialContext(ctx, "unix", address)
		return err
	})
	if err != nil {
		return errDown
	}
	defer connection.Close()
	defer context.AfterFunc(ctx, func() { connection.Close() })()
	if _, err := fmt.Fprintln(connection, order); err != nil {
		return err
	}
	for in := json.NewDecoder(connection); ; {
		var a answer
		if err := in.Decode(&a); err != nil {
			return errLost
		}
		switch {
		case a.End && a.Error != "":
			return errors.New(a.Error)
		case a.End:
			return nil
		}
		fmt.Fprintln(out, a.Text)
	}
}

var errLost = errors.New("the lab's supervisor ended in the middle of it")
