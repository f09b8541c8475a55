package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// daemon is bin/privyseal serve, with its default flags unless it says otherwise.
type daemon struct {
	command *exec.Cmd
	began   time.Time
	ended   chan error
	log     *os.File
}

// kubesealAddress is where a daemon of the bench serves its certificates.
const kubesealAddress = "127.0.0.1:18099"

func (c *cluster) startDaemon(flags ...string) (*daemon, error) {
	log, err := os.Create(filepath.Join(c.state, "daemon.log"))
	if err != nil {
		return nil, fmt.Errorf("making the daemon's log: %w", err)
	}
	// Ports are the kernel's choice, since another daemon may run here.
	command := exec.Command(filepath.Join(c.root, "bin", "privyseal"), append([]string{"serve", "--kubeconfig", c.kubeconfig,
		"--namespace", system, "--metrics-address", "127.0.0.1:0", "--probe-address", "127.0.0.1:0",
		"--kubeseal-address", kubesealAddress}, flags...)...)
	command.Stderr = log
	// It ends with the bench, however that ends.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	d := &daemon{command: command, began: time.Now(), ended: make(chan error, 1), log: log}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting the daemon: %w", err)
	}
	go func() { d.ended <- command.Wait() }()
	return d, nil
}

// stop ends the daemon as Kubernetes does.
func (d *daemon) stop() error {
	if err := d.command.Process.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(fmt.Errorf("stopping the daemon: %w", err), <-d.ended)
	}
	select {
	case err := <-d.ended:
		return errors.Join(err, d.log.Close())
	case <-time.After(30 * time.Second):
		return errors.Join(errors.New("stopping the daemon: it runs after 30 s"), d.command.Process.Kill())
	}
}

// tick is the kernel's unit of a process's CPU time (USER_HZ).
const tick = 10 * time.Millisecond

// cpu is what the daemon has used until now, in user and system time.
func (d *daemon) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.command.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the daemon's CPU time: %w", err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("reading the daemon's CPU time: %q has too few fields", rest)
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, fmt.Errorf("reading the daemon's user time: %w", err)
	}
	kernel, err := strconv.Atoi(fields[12])
	if err != nil {
		return 0, fmt.Errorf("reading the daemon's system time: %w", err)
	}
	return time.Duration(user+kernel) * tick, nil
}

const (
	idleFor   = 3 * time.Second
	idleShare = 0.03 // of a core
	sampling  = 100 * time.Millisecond
)

// untilIdle waits for the first three seconds in which the daemon uses at most
// 3 % of a core. It gives the CPU time used before them.
func (d *daemon) untilIdle(ctx context.Context, within time.Duration) (used time.Duration, err error) {
	var samples []time.Duration
	window := int(idleFor / sampling)
	err = until(ctx, within, sampling, func(context.Context) (string, error) {
		now, err := d.cpu()
		if err != nil {
			return "", err
		}
		samples = append(samples, now)
		if len(samples) <= window {
			return "it just began", nil
		}
		used = samples[len(samples)-1-window]
		if busy := now - used; busy.Seconds() > idleShare*idleFor.Seconds() {
			return fmt.Sprintf("the daemon used %s in %s", busy, idleFor), nil
		}
		return "", nil
	})
	return used, err
}

// memory in KiB: the most that it ever had, mapped program and all, and what is
// its own now.
type memory struct{ peak, own int }

func (d *daemon) memory() (memory, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.command.Process.Pid))
	if err != nil {
		return memory{}, fmt.Errorf("reading the daemon's memory: %w", err)
	}
	var m memory
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		kibibytes, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch {
		case key == "VmHWM" && err == nil:
			m.peak = kibibytes
		case key == "RssAnon" && err == nil:
			m.own = kibibytes
		}
	}
	return m, nil
}
