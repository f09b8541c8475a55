package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// process keeps one server running. One goroutine owns it and takes orders; a
// server that ends without an order is started again, with a growing pause,
// unless the lab is not up yet: then that is the lab's failure.
type process struct {
	server
	log    string
	up     *atomic.Bool // the whole lab's
	orders chan order
	died   chan error // its end before the lab was up
	state  atomic.Pointer[state]
}

// state is what a process is seen to be.
type state struct {
	pid      int    // 0: not running
	word     string // running, stopped, restarting
	restarts int
	settled  chan struct{}         // closed when ready and after are through
	why      atomic.Pointer[error] // they are not
}

type order struct {
	verb string // start, stop, kill, pause, resume
	done chan struct{}
}

func newProcess(s server, log string, up *atomic.Bool) *process {
	p := &process{server: s, log: log, up: up, orders: make(chan order), died: make(chan error, 1)}
	p.state.Store(&state{word: "starting", settled: make(chan struct{})})
	return p
}

const (
	firstPause = 250 * time.Millisecond
	lastPause  = 10 * time.Second
	stopGrace  = 15 * time.Second // from asking it to SIGKILL
)

// keep runs the server until ctx ends. It holds its thread, since Linux ends a
// child with Pdeathsig when the thread that made it ends, not the process.
func (p *process) keep(ctx context.Context) {
	runtime.LockOSThread()
	pause := firstPause
	for restarts := 0; ; restarts++ {
		began := time.Now()
		err := p.once(ctx, restarts)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errStopped):
			if !p.awaitStart(ctx) {
				return
			}
			pause = firstPause
			continue
		case !p.up.Load():
			p.died <- err
			return
		}
		if time.Since(began) > time.Minute {
			pause = firstPause
		}
		p.show(&state{word: "restarting", restarts: restarts})
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		case o := <-p.orders:
			close(o.done)
			if o.verb == "stop" && !p.awaitStart(ctx) {
				return
			}
		}
		pause = min(2*pause, lastPause)
	}
}

var errStopped = errors.New("stopped by order")

// once is one life of the server.
func (p *process) once(ctx context.Context, restarts int) error {
	cmd, err := p.begin()
	if err != nil {
		return err
	}
	life, end := context.WithCancel(ctx)
	defer end()
	now := &state{pid: cmd.Process.Pid, word: "running", restarts: restarts, settled: make(chan struct{})}
	p.show(now)
	go p.settle(life, now)
	ended := make(chan ending, 1)
	go func() { ended <- ending{cmd.Wait()} }()
	for {
		select {
		case <-ctx.Done():
			cmd.Process.Kill()
			<-ended
			return ctx.Err()
		case <-ended:
			return fmt.Errorf("ended: %s", cmd.ProcessState)
		case o := <-p.orders:
			switch o.verb {
			case "stop":
				terminate(cmd.Process, cmp.Or(p.stop, syscall.SIGTERM), ended)
				p.show(&state{word: "stopped", restarts: restarts})
				close(o.done)
				return errStopped
			case "kill":
				cmd.Process.Kill()
				err := (<-ended).err
				p.show(&state{word: "restarting", restarts: restarts})
				close(o.done)
				return err
			case "pause":
				cmd.Process.Signal(syscall.SIGSTOP)
			case "resume":
				cmd.Process.Signal(syscall.SIGCONT)
			}
			close(o.done)
		}
	}
}

func (p *process) show(s *state) {
	if s.settled == nil {
		s.settled = make(chan struct{})
	}
	p.state.Store(s)
}

// settle waits until the server is ready and has been given what it needs.
func (p *process) settle(ctx context.Context, now *state) {
	noting := func(task func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			err := task(ctx)
			if err != nil {
				now.why.Store(&err)
			}
			return err
		}
	}
	if until(ctx, 50*time.Millisecond, noting(p.ready)) != nil {
		return
	}
	if p.after != nil && until(ctx, time.Second, noting(p.after)) != nil {
		return
	}
	close(now.settled)
}

// settled is nil when the server is ready and has been given what it needs.
func (p *process) settled() error {
	now := p.state.Load()
	select {
	case <-now.settled:
		return nil
	default:
	}
	if why := now.why.Load(); why != nil {
		return fmt.Errorf("%s is not ready: %w", p.name, *why)
	}
	return fmt.Errorf("%s is not ready", p.name)
}

func (p *process) awaitStart(ctx context.Context) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case o := <-p.orders:
			close(o.done)
			if o.verb == "start" {
				p.show(&state{word: "starting"})
				return true
			}
		}
	}
}

func (p *process) begin() (*exec.Cmd, error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(p.program, p.args...)
	cmd.Env = serverEnv()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, Credential: p.as}
	return cmd, cmd.Start()
}

// serverEnv leaves out all that a user's environment may say of other clusters,
// Vaults and proxies.
func serverEnv() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + os.TempDir()}
}

// ending is how a process ended.
type ending struct{ err error }

func terminate(process *os.Process, with os.Signal, ended <-chan ending) {
	process.Signal(with)
	process.Signal(syscall.SIGCONT) // one that is paused would not hear of it
	select {
	case <-ended:
	case <-time.After(stopGrace):
		process.Kill()
		<-ended
	}
}

// quietly runs a short command and keeps its output for the error.
func quietly(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = serverEnv()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// fleet is all processes of a lab, by name.
type fleet struct {
	mu  sync.Mutex
	all map[string]*process
}

func (f *fleet) add(p *process) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[p.name] = p
}

func (f *fleet) get(name string) *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all[name]
}

// list is sorted by name.
func (f *fleet) list() []*process {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*process
	for _, name := range slices.Sorted(maps.Keys(f.all)) {
		all = append(all, f.all[name])
	}
	return all
}

// settled names the servers that are not.
func (f *fleet) settled() error {
	var waiting []error
	for _, p := range f.list() {
		waiting = append(waiting, p.settled())
	}
	return errors.Join(waiting...)
}
