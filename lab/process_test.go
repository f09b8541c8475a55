package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// newFleet is a supervisor with no servers yet, and a deadline for its test.
func newFleet(t *testing.T) (*supervisor, context.Context) {
	t.Helper()
	s := &supervisor{plan: plan{Config: Config{State: t.TempDir()}}, fleet: fleet{all: map[string]*process{}}, story: newStory()}
	if err := os.Mkdir(s.plan.Config.path("logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return s, ctx
}

func ready(context.Context) error { return nil }

func TestAServerThatEndsAtOnceEndsTheStart(t *testing.T) {
	s, ctx := newFleet(t)
	never := func(context.Context) error { return errors.New("not ready") }
	err := s.start(ctx, ctx, server{name: "brief", program: "sh", args: []string{"-c", "echo last words; exit 3"}, ready: never})
	if err == nil || !strings.Contains(err.Error(), "brief ended: exit status 3") || !strings.Contains(err.Error(), "last words") {
		t.Errorf("got %v", err)
	}
	if ctx.Err() != nil {
		t.Error("it was noticed by the deadline only")
	}
	if err := s.start(ctx, ctx, server{name: "absent", program: "/nonexistent", ready: never}); err == nil {
		t.Error("a program that is not there was started")
	}
}

func TestAKilledServerComesBackAndAStoppedOneDoesNot(t *testing.T) {
	s, ctx := newFleet(t)
	unsealed := make(chan struct{}, 10)
	after := func(context.Context) error { unsealed <- struct{}{}; return nil }
	if err := s.start(ctx, ctx, server{name: "x", program: "sleep", args: []string{"1000"}, ready: ready, after: after}); err != nil {
		t.Fatal(err)
	}
	s.up.Store(true)
	p := s.fleet.get("x")
	first := p.state.Load().pid
	order := func(verb string) {
		t.Helper()
		if err := s.order(ctx, verb, "x", func(string) {}); err != nil {
			t.Fatalf("%s: %v", verb, err)
		}
	}

	order("kill")
	if err := until(ctx, time.Millisecond, func(context.Context) error { return p.settled() }); err != nil {
		t.Fatal(err)
	}
	second := p.state.Load()
	if second.pid == first || second.restarts != 1 || startTime(first) != "" {
		t.Errorf("pid %d, then %d with %d restarts", first, second.pid, second.restarts)
	}

	order("stop")
	if now := p.state.Load(); now.word != "stopped" || startTime(second.pid) != "" {
		t.Errorf("stopped, it is %s", now.word)
	}
	order("stop") // again: it stays so
	if now := p.state.Load(); now.word != "stopped" {
		t.Errorf("stopped twice, it is %s", now.word)
	}
	order("start")
	if now := p.state.Load(); now.word != "running" || now.pid == 0 {
		t.Errorf("started, it is %s", now.word)
	}
	if len(unsealed) != 3 {
		t.Errorf("what is done after a start was done %d times in 3 starts", len(unsealed))
	}
}

func TestAPausedServerHangsAndASlowOneWorksInBetween(t *testing.T) {
	s, ctx := newFleet(t)
	if err := s.start(ctx, ctx, server{name: "vault", program: "sleep", args: []string{"1000"}, ready: ready}); err != nil {
		t.Fatal(err)
	}
	s.up.Store(true)
	pid := s.fleet.get("vault").state.Load().pid
	becomes := func(want string) {
		t.Helper()
		err := until(ctx, time.Millisecond, func(context.Context) error {
			if got := schedulingOf(t, pid); got != want {
				return errors.New("it is in state " + got)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	obey := func(verb, name string) {
		t.Helper()
		if err := s.obey(ctx, verb, name, func(string) {}); err != nil {
			t.Fatalf("%s %s: %v", verb, name, err)
		}
	}
	obey("pause", "vault")
	becomes("T")
	obey("resume", "vault")
	becomes("S")

	obey("slow", "50ms")
	for range 2 {
		becomes("T")
		becomes("S")
	}
	obey("slow", "1h") // instead of the slowness before
	becomes("T")
	obey("slow", "off")
	if got := schedulingOf(t, pid); got == "T" {
		t.Error("as fast as ever, it is stopped")
	}
	becomes("S")
	if err := s.obey(ctx, "slow", "soon", func(string) {}); err == nil || !strings.Contains(err.Error(), "soon: want a time such as 3s, or off") {
		t.Errorf("got %v", err)
	}
	obey("pause", "vault")
	obey("stop", "vault") // a paused one ends as quickly as any
	if startTime(pid) != "" {
		t.Error("it still lives")
	}
}

// schedulingOf is a process's state as Linux says it: T for stopped.
func schedulingOf(t *testing.T, pid int) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest[:1]
}
