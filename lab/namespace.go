package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// inside is the lab's end of the pair that joins it to the host.
const inside = "lab0"

// spawnNode starts the lab's first process in namespaces of its own, and joins
// its network to the host's by a pair of devices. The pair lies in the
// namespace, so it goes when that goes.
func spawnNode(ctx context.Context, p plan, log *os.File) (*exec.Cmd, error) {
	hear, tell, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer tell.Close()
	cmd := exec.Command("/proc/self/exe", "init", p.Config.State)
	cmd.Env, cmd.Stdout, cmd.Stderr = serverEnv(), log, log
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{hear}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC}
	err = cmd.Start()
	hear.Close()
	if err != nil {
		return nil, fmt.Errorf("making namespaces: %w", err)
	}
	pid, link := fmt.Sprint(cmd.Process.Pid), p.Site.link()
	for _, args := range [][]string{
		{"link", "add", link, "type", "veth", "peer", "name", inside, "netns", pid},
		{"addr", "add", p.Site.hostSide() + "/30", "dev", link},
		{"link", "set", link, "up"},
	} {
		if err := quietly(ctx, "ip", args...); err != nil {
			return cmd, errors.Join(fmt.Errorf("joining the lab's network: %w", err), cmd.Process.Kill(), wait(cmd))
		}
	}
	_, err = tell.Write([]byte{1})
	return cmd, err
}

// spawnLoopback starts the supervisor of a lab without a node: an ordinary
// process whose children the kernel ends with it.
func spawnLoopback(p plan, log *os.File) (*exec.Cmd, error) {
	cmd := exec.Command("/proc/self/exe", "supervise", p.Config.State)
	cmd.Env, cmd.Stdout, cmd.Stderr = serverEnv(), log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, cmd.Start()
}

func wait(cmd *exec.Cmd) error {
	cmd.Wait() // its exit status says nothing that we did not cause
	return nil
}

// runInit is the first process of the lab's PID namespace: it prepares mounts
// and network, starts the supervisor, and reaps whatever the pods' shims leave.
// When the supervisor ends it ends, and with it everything.
func runInit(stateFolder string) error {
	var p plan
	if err := readJSON(filepath.Join(stateFolder, "plan.json"), &p); err != nil {
		return err
	}
	joined := os.NewFile(3, "joined")
	if n, _ := joined.Read(make([]byte, 1)); n == 0 {
		return errors.New("the starter ended before it had joined the network")
	}
	joined.Close()
	if err := prepareMounts(p); err != nil {
		return fmt.Errorf("preparing mounts: %w", err)
	}
	if err := prepareNetwork(context.Background(), p); err != nil {
		return fmt.Errorf("preparing the network: %w", err)
	}
	if err := p.Config.makeCgroups(); err != nil {
		return fmt.Errorf("preparing cgroups: %w", err)
	}
	child, err := syscall.ForkExec("/proc/self/exe", []string{"lab", "supervise", stateFolder}, &syscall.ProcAttr{
		Env: serverEnv(), Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		return fmt.Errorf("starting the supervisor: %w", err)
	}
	return reapUntil(child)
}

func reapUntil(child int) error {
	signals := notifyEndings()
	go func() {
		for received := range signals {
			syscall.Kill(child, received.(syscall.Signal))
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for the supervisor: %w", err)
		case pid == child:
			return exitCode(status.ExitStatus())
		}
	}
}

// prepareMounts gives the lab its own /proc, and its own places where the node's
// parts write by habit. None of it is seen outside.
func prepareMounts(p plan) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	own := p.Config.path("var")
	if err := os.RemoveAll(own); err != nil {
		return err
	}
	for _, dir := range []string{"lib", "log"} {
		from := filepath.Join(own, dir)
		if err := os.MkdirAll(from, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(from, "/var/"+dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting /var/%s: %w", dir, err)
		}
	}
	if err := p.Config.mountPostgres(); err != nil {
		return fmt.Errorf("mounting %s: %w", postgresHome, err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	return os.MkdirAll("/run/netns", 0o755)
}

// hidden are the folders that prepareMounts covers: the state cannot lie there.
func hidden(path string) bool {
	for _, dir := range []string{"/run/", "/var/run/", "/var/lib/", "/var/log/", "/proc/"} {
		if strings.HasPrefix(path+"/", dir) {
			return true
		}
	}
	return false
}

// prepareNetwork gives the node its addresses. There is no default route: what
// is not the lab's or the host's end of the pair cannot be reached.
func prepareNetwork(ctx context.Context, p plan) error {
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := until(limited, 5*time.Millisecond, func(context.Context) error {
		_, err := net.InterfaceByName(inside)
		return err
	})
	if err != nil {
		return err
	}
	for _, args := range []string{
		"link set lo up",
		"addr add " + dnsAddress + "/32 dev lo",
		"addr add " + p.Site.Host + "/30 dev " + inside,
		"link set " + inside + " up",
		// Services need some route to be looked up before kube-proxy's rules
		// send them to a pod.
		"route add " + serviceRange + " dev " + inside,
	} {
		if err := quietly(ctx, "ip", strings.Fields(args)...); err != nil {
			return err
		}
	}
	for setting, value := range map[string]string{
		"ip_forward": "1",
		// A closed connection to a pod that is gone keeps the namespace until
		// its last words were sent nine times, in two minutes. Once will do.
		"tcp_orphan_retries": "1",
	} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+setting, []byte(value), 0); err != nil {
			return err
		}
	}
	// The host knows no way back to a pod; to it, pods are the node.
	return quietly(ctx, "nft", "add table ip lab; add chain ip lab out { type nat hook postrouting priority 100; }; "+
		"add rule ip lab out ip saddr "+podRange+" oifname "+inside+" masquerade")
}

// cgroupRoots are the hierarchies' mount points: one in version 2, several in
// version 1.
func cgroupRoots() ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var roots []string
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) > 2 && (fields[2] == "cgroup" || fields[2] == "cgroup2") {
			roots = append(roots, fields[1])
		}
	}
	return roots, nil
}

func (c Config) makeCgroups() error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := os.MkdirAll(filepath.Join(root, c.cgroupName()), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// removeCgroups removes what a lab that has ended left, from the leaves up.
func (c Config) removeCgroups(ctx context.Context) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		top := filepath.Join(root, c.cgroupName())
		if err := until(ctx, 20*time.Millisecond, func(context.Context) error { return removeTree(top) }); err != nil {
			return fmt.Errorf("removing cgroup %s: %w", top, err)
		}
	}
	return nil
}

// removeTree removes folders only: a cgroup's files go with it.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(dir)
}
