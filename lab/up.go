package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// running is the lab's first process, as the starter wrote it down.
type running struct {
	PID     int
	Started string // the process's start time, so that a PID used again is not taken for it
	Key     string // of the servers it runs
	Memory  bool   // Vault's storage
}

func (c Config) runningFile() string { return c.path("running.json") }

// live reads who runs. A lab that has ended is no error: ok is false.
func (c Config) live() (r running, ok bool, err error) {
	err = readJSON(c.runningFile(), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	return r, err == nil && r.Started != "" && startTime(r.PID) == r.Started, err
}

// startTime is the 22nd field of /proc/PID/stat, empty where no such process
// lives any more (a zombie does not).
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // past the name, which may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

// up finds this checkout's lab or starts it, and writes down how to reach it.
func up(ctx context.Context, config Config) error {
	if config.Mode == ModeExternal {
		return external(ctx, config)
	}
	began := time.Now()
	if err := check(ctx, config); err != nil {
		return err
	}
	built, err := buildAll(ctx, config)
	if err != nil {
		return err
	}
	unlock, err := lock(ctx, config.State+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	r, live, err := config.live()
	if err != nil {
		return err
	}
	switch {
	case live && r.Key == built.Key && r.Memory == config.VaultMemory:
		err := ask(ctx, config.State, "await", os.Stdout)
		if err == nil {
			fmt.Printf("the lab %q is up already (pid %d)\n", config.Name, r.PID)
			return config.writeEnv()
		} else if ctx.Err() != nil {
			return errGoesOn
		}
		fmt.Printf("the lab %q is there but not up (%v): starting it again\n", config.Name, err)
	case live:
		fmt.Printf("the lab %q runs other servers than this checkout's: starting it again on these\n", config.Name)
	}
	if err := end(ctx, config); err != nil {
		return err
	}
	if err := startLab(ctx, config, built); err != nil {
		return err
	}
	fmt.Printf("the lab %q is up (%.1f s); its env: %s\n", config.Name, time.Since(began).Seconds(), config.EnvFile)
	return config.writeEnv()
}

// indent prefixes what is written to it: one line a call.
type indent struct{ with string }

func (i indent) Write(line []byte) (int, error) {
	fmt.Print(i.with + string(line))
	return len(line), nil
}

func startLab(ctx context.Context, config Config, built servers) error {
	if hidden(config.State) {
		return fmt.Errorf("the state folder %s lies where the lab mounts its own: set XDG_STATE_HOME to another place", config.State)
	}
	p, err := config.preparePlan(ctx, built)
	if err != nil {
		return err
	}
	fmt.Printf("starting the lab %q (%s)\n", config.Name, config.Mode)
	log, err := os.OpenFile(config.path("logs", "supervisor.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	var cmd *exec.Cmd
	if config.Mode == ModeNode {
		cmd, err = spawnNode(ctx, p, log)
	} else {
		cmd, err = spawnLoopback(p, log)
	}
	if err != nil {
		return err
	}
	r := running{PID: cmd.Process.Pid, Started: startTime(cmd.Process.Pid), Key: built.Key, Memory: config.VaultMemory}
	if err := writeJSON(config.runningFile(), r, 0o644); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	return follow(ctx, config, cmd)
}

var errGoesOn = errors.New("interrupted; the lab's start goes on: lab up follows it, lab down ends it")

// follow prints the start's progress until the lab is up.
func follow(ctx context.Context, config Config, cmd *exec.Cmd) error {
	ended := make(chan ending, 1)
	go func() { ended <- ending{cmd.Wait()} }()
	for {
		err := ask(ctx, config.State, "follow", indent{"  "})
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errGoesOn
		}
		if !errors.Is(err, errDown) { // it says itself what went wrong
			<-ended
			if errors.Is(err, errLost) {
				return fmt.Errorf("%w; the last lines of its log:\n%s", err, tail(config.path("logs", "supervisor.log"), 20))
			}
			return err
		}
		select {
		case <-ended:
			return fmt.Errorf("the supervisor ended; the last lines of its log:\n%s", tail(config.path("logs", "supervisor.log"), 20))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// preparePlan makes the state folder what a start wants to find.
func (c Config) preparePlan(ctx context.Context, built servers) (plan, error) {
	p := plan{Config: c, Servers: built}
	for _, dir := range []string{"logs", "pki", "conf", "bin"} {
		if err := os.MkdirAll(c.path(dir), 0o755); err != nil {
			return p, err
		}
	}
	var err error
	if c.Mode == ModeNode {
		if p.Postgres, err = postgresFolder(); err != nil {
			return p, fmt.Errorf("looking for PostgreSQL: %w", err)
		}
	}
	if p.Site, err = openSite(ctx, c); err != nil {
		return p, fmt.Errorf("choosing addresses: %w", err)
	}
	if err := p.Site.issueAll(p.pki("")); err != nil {
		return p, fmt.Errorf("making certificates: %w", err)
	}
	for _, log := range c.logFiles() { // each start has whole logs of its own, and the ones before
		if err := os.Rename(log, log+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p, err
		}
	}
	programs := maps.Clone(built.Programs)
	if p.Postgres != "" {
		programs["psql"] = filepath.Join(p.Postgres, "psql")
	}
	for name, program := range programs {
		link := c.path("bin", name)
		os.Remove(link)
		if err := os.Symlink(program, link); err != nil {
			return p, err
		}
	}
	if err := p.settle(); err != nil {
		return p, err
	}
	os.Remove(c.path(socketName))
	if c.VaultMemory {
		os.Remove(c.vaultKeysFile())
	}
	return p, writeJSON(c.path("plan.json"), p, 0o600)
}

func (c Config) logFiles() []string {
	logs, _ := filepath.Glob(c.path("logs", "*.log"))
	return append(logs, c.path("audit.log"), c.path("vault-audit.log"))
}

const downTimeout = 30 * time.Second

// end ends a lab if one lives, waits until the kernel has taken all of it
// down, and removes what the kernel does not: cgroups. After a lab that died
// it does only the latter.
func end(ctx context.Context, config Config) error {
	r, live, err := config.live()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	var all []seen
	if live {
		all = descendants(r.PID)
		if err := unix.Kill(r.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("ending the lab's supervisor: %w", err)
		}
		all = append(all, seen{r.PID, r.Started})
	}
	err = until(ctx, 10*time.Millisecond, func(context.Context) error {
		all = slices.DeleteFunc(all, func(p seen) bool { return startTime(p.pid) != p.started })
		if len(all) > 0 {
			return fmt.Errorf("%d processes are still there", len(all))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the lab's end: %w", err)
	}
	if config.Mode == ModeNode {
		if err := config.endNetwork(ctx); err != nil {
			return err
		}
		if err := config.removeCgroups(ctx); err != nil {
			return err
		}
	}
	if err := os.Remove(config.runningFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (c Config) endNetwork(ctx context.Context) error {
	var s site
	if err := readJSON(c.path("site.json"), &s); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return s.removeLink(ctx)
}

// seen is a process as it was when it was seen.
type seen struct {
	pid     int
	started string
}

// descendants are all processes below one, in any namespace.
func descendants(root int) []seen {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	children := map[int][]int{}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var pid, parent int
		fmt.Sscanf(string(stat), "%d", &pid)
		_, rest, _ := strings.Cut(string(stat), ") ")
		if _, err := fmt.Sscanf(rest, "%1s %d", new(string), &parent); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	var all []seen
	for next := []int{root}; len(next) > 0; next = next[1:] {
		for _, child := range children[next[0]] {
			if started := startTime(child); started != "" {
				all = append(all, seen{child, started})
			}
			next = append(next, child)
		}
	}
	return all
}

func down(ctx context.Context, config Config) error {
	unlock, err := lock(ctx, config.State+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	_, live, err := config.live()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := end(ctx, config); err != nil {
		return err
	}
	if live {
		fmt.Printf("the lab %q is down (%.1f s); its state stays in %s\n", config.Name, time.Since(began).Seconds(), config.State)
	} else {
		fmt.Printf("the lab %q was not up\n", config.Name)
	}
	return nil
}

func clean(ctx context.Context, config Config) error {
	if err := down(ctx, config); err != nil {
		return err
	}
	removed := []string{config.State, config.State + ".lock"}
	if config.CleanCache {
		removed = append(removed, config.Cache)
	}
	for _, path := range removed {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		fmt.Println("removed", path)
	}
	return nil
}

func status(ctx context.Context, config Config) error {
	r, live, err := config.live()
	if err != nil {
		return err
	}
	if !live {
		return errDown
	}
	var s site
	if err := readJSON(config.path("site.json"), &s); err != nil {
		return err
	}
	fmt.Printf("lab %q (%s), pid %d, servers %s\nstate %s\nAPI server %s\nVault %s\n",
		config.Name, config.Mode, r.PID, r.Key, config.State, s.apiURL(), s.vaultURL())
	return ask(ctx, config.State, "status", os.Stdout)
}

// enter runs a command inside the lab: in its namespaces where it has some, and
// everywhere with the lab's env and programs.
func enter(ctx context.Context, config Config, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	cmd, err := config.insideCommand(ctx, args...)
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return exitCode(max(1, ended.ExitCode()))
	}
	return err
}

func (c Config) insideCommand(ctx context.Context, args ...string) (*exec.Cmd, error) {
	r, live, err := c.live()
	if err != nil {
		return nil, err
	}
	if !live {
		return nil, errDown
	}
	env, err := c.env()
	if err != nil {
		return nil, err
	}
	if c.Mode == ModeNode {
		here, _ := os.Getwd() // entering a mount namespace loses it
		args = append([]string{"nsenter", "--target", fmt.Sprint(r.PID), "--mount", "--net", "--pid", "--",
			"sh", "-c", `cd "$0" 2>/dev/null || cd /; exec "$@"`, here}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env.lines()...)
	cmd.Env = append(cmd.Env, "KUBECONFIG="+c.path("kubeconfig"), "PATH="+c.path("bin")+":"+os.Getenv("PATH"))
	return cmd, nil
}
