package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// supervisor owns the lab's servers. It brings them up in the order that they
// need each other, side by side where they do not, then keeps them up and
// takes orders over its socket.
type supervisor struct {
	plan     plan
	ask      *asker
	vault    vaultAdmin
	fleet    fleet
	slowness slowness
	story    *story
	up       atomic.Bool
	started  time.Time
}

const upTimeout = 5 * time.Minute // a busy machine; an idle one needs ten seconds

var errTooSlow = errors.New("not up")

// runSupervisor is the lab's own process; state is its state folder.
func runSupervisor(stateFolder string) error {
	var p plan
	if err := readJSON(Config{State: stateFolder}.path("plan.json"), &p); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), endings...)
	defer stop()
	ask, err := newAsker(p)
	if err != nil {
		return err
	}
	s := &supervisor{
		plan: p, ask: ask, vault: vaultAdmin{p, ask}, started: time.Now(),
		fleet: fleet{all: map[string]*process{}}, story: newStory(),
	}
	if err := s.listen(ctx); err != nil {
		return fmt.Errorf("opening the control socket: %w", err)
	}
	limited, cancel := context.WithTimeoutCause(ctx, upTimeout, errTooSlow)
	err = s.bringUp(limited, ctx)
	cancel()
	if errors.Is(err, errTooSlow) {
		err = errors.Join(fmt.Errorf("%w within %s; see %s", errTooSlow, upTimeout, p.Config.path("logs")), s.fleet.settled())
	}
	s.up.Store(err == nil)
	s.story.end(err)
	if err != nil {
		s.story.told(time.Second)
		return err
	}
	<-ctx.Done()
	return nil
}

// endings are the signals that end a lab. As the first process of a PID
// namespace the supervisor would not notice the ones it has no handler for.
var endings = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGABRT,
	syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM}

// bringUp starts everything; ctx ends the start, life the lab.
func (s *supervisor) bringUp(ctx, life context.Context) error {
	if err := s.vault.prepare(); err != nil {
		return fmt.Errorf("preparing Vault's storage: %w", err)
	}
	start := func(srv server) func(context.Context) error {
		return func(ctx context.Context) error { return s.start(ctx, life, srv) }
	}
	p, ask := s.plan, s.ask
	apiUp, containerdUp, vaultUp := newGate(), newGate(), newGate()
	tasks := []func(context.Context) error{
		inTurn(start(p.etcd(ask)), start(p.apiserver(ask)), apiUp.open),
		inTurn(apiUp.wait, start(p.controllerManager(ask)), s.step("namespaces are ready for pods", waitFor(accountThere(ask, p)))),
		inTurn(start(p.vault(ask, s.vault.unseal)), s.step("Vault's mounts", s.vault.furnish), vaultUp.open),
		inTurn(apiUp.wait, vaultUp.wait, s.step("Vault's trust in the cluster", s.introduce)),
	}
	if p.Config.Mode == ModeNode {
		postgres, err := p.postgres()
		if err != nil {
			return fmt.Errorf("looking for PostgreSQL's user: %w", err)
		}
		tasks = append(tasks,
			inTurn(s.step("PostgreSQL's data", p.furnishPostgres), start(postgres)),
			inTurn(start(p.containerd()), s.step("images", s.loadImages), containerdUp.open),
			inTurn(apiUp.wait, start(p.scheduler(ask))),
			inTurn(apiUp.wait, start(p.kubeProxy(ask))),
			inTurn(apiUp.wait, start(p.coreDNS(ask)), s.step("DNS answers", waitFor(nameAnswers))),
			inTurn(apiUp.wait, containerdUp.wait, start(p.kubelet(ask)), s.step("node ready", waitFor(nodeReady(ask, p, s.started))),
				s.step("earlier pods are seen to", waitFor(podsSeen(ask, p, s.started)))),
		)
	}
	return together(ctx, tasks...)
}

// introduce makes Vault and the cluster known to each other.
func (s *supervisor) introduce(ctx context.Context) error {
	if err := apply(ctx, s.ask, s.plan, s.plan.vaultObjects()); err != nil {
		return err
	}
	token, err := reviewerToken(ctx, s.ask, s.plan)
	if err != nil {
		return err
	}
	return s.vault.trust(ctx, token)
}

// start runs a server for the lab's life and waits until it is settled.
func (s *supervisor) start(ctx, life context.Context, srv server) error {
	began := time.Now()
	p := newProcess(srv, s.plan.Config.path("logs", srv.name+".log"), &s.up)
	s.fleet.add(p)
	go p.keep(life)
	var dead error // ends the waiting, as being settled does
	err := until(ctx, 20*time.Millisecond, func(context.Context) error {
		select {
		case err := <-p.died:
			dead = deadServer{p, err}
			return nil
		default:
			return p.settled()
		}
	})
	if dead != nil {
		return dead
	}
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", srv.name, err)
	}
	s.story.tell("%s (%.1f s)", srv.name, time.Since(began).Seconds())
	return nil
}

// deadServer is one that ended before the lab was up.
type deadServer struct {
	process *process
	cause   error
}

func (d deadServer) Error() string {
	return fmt.Sprintf("%s %s; the last lines of %s:\n%s", d.process.name, d.cause, d.process.log, tail(d.process.log, 20))
}

func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return "  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}

func (s *supervisor) step(what string, task func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		began := time.Now()
		if err := task(ctx); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		s.story.tell("%s (%.1f s)", what, time.Since(began).Seconds())
		return nil
	}
}

func waitFor(condition func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error { return until(ctx, 50*time.Millisecond, condition) }
}

func inTurn(tasks ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, task := range tasks {
			if err := task(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// gate lets tasks wait for another one.
type gate chan struct{}

func newGate() gate { return make(gate) }

func (g gate) open(context.Context) error {
	close(g)
	return nil
}

func (g gate) wait(ctx context.Context) error {
	select {
	case <-g:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// story is the start's progress, for everyone who asks, from its beginning.
type story struct {
	mu      sync.Mutex
	lines   []string
	ended   bool
	err     error
	changed chan struct{} // closed and made anew at each change
	readers sync.WaitGroup
	began   time.Time
}

func newStory() *story { return &story{changed: make(chan struct{}), began: time.Now()} }

func (s *story) tell(format string, args ...any) {
	s.change(func() { s.lines = append(s.lines, fmt.Sprintf(format, args...)) })
}

func (s *story) end(err error) {
	s.change(func() { s.ended, s.err = true, err })
}

func (s *story) change(how func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	how()
	close(s.changed)
	s.changed = make(chan struct{})
}

// read gives each line to the reader until the end, and the end's error.
func (s *story) read(ctx context.Context, line func(string)) error {
	for next := 0; ; {
		s.mu.Lock()
		lines, ended, err, changed := s.lines[next:], s.ended, s.err, s.changed
		s.mu.Unlock()
		for _, l := range lines {
			line(l)
		}
		next += len(lines)
		if ended {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// told waits, but not for ever, until readers have the end too.
func (s *story) told(limit time.Duration) {
	done := make(chan struct{})
	go func() { s.readers.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

func notifyEndings() <-chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, endings...)
	return signals
}
