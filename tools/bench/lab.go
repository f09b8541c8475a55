package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// system is the namespace that the daemon is installed into.
const system = "privyseal-system"

// lab is a control plane and a Vault of the bench's own.
type lab struct {
	root  string
	state string // the bench's files: logs and kubeconfigs
	env   map[string]string
}

// freshLab removes the lab of the round before and starts a new one, whose
// Vault keeps its data in memory.
func freshLab(ctx context.Context, root string) (*lab, error) {
	l := &lab{root: root, state: filepath.Join(root, ".lab", "bench")}
	if err := os.MkdirAll(l.state, 0o755); err != nil {
		return nil, fmt.Errorf("making the bench's folder: %w", err)
	}
	if err := removeLab(root); err != nil {
		return nil, err
	}
	file := filepath.Join(l.state, "env")
	if err := labCommand(ctx, root, "up", "--vault-memory", "--env-file", file); err != nil {
		return nil, fmt.Errorf("starting the bench's lab: %w", err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading how to reach the lab: %w", err)
	}
	l.env = map[string]string{}
	for line := range strings.Lines(string(content)) {
		if key, value, found := strings.Cut(strings.TrimSpace(line), "="); found {
			l.env[key] = value
		}
	}
	return l, nil
}

// removeLab works, too, when the bench was interrupted.
func removeLab(root string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := labCommand(ctx, root, "clean"); err != nil {
		return fmt.Errorf("removing the bench's lab: %w", err)
	}
	return nil
}

func labCommand(ctx context.Context, root string, arguments ...string) error {
	command := exec.CommandContext(ctx, filepath.Join(root, "bin", "lab"), arguments...)
	command.Dir = root
	command.Env = append(os.Environ(), "LAB=control-plane", "LAB_NAME=bench")
	_, err := output(command)
	return err
}

// kubectl runs kubectl as the administrator.
func (l *lab) kubectl(ctx context.Context, input io.Reader, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, l.env["LAB_KUBECTL"], arguments...)
	command.Env = []string{"KUBECONFIG=" + l.env["LAB_KUBECONFIG"], "HOME=" + l.state, "PATH=" + os.Getenv("PATH")}
	command.Stdin = input
	return output(command)
}

func (l *lab) apply(ctx context.Context, manifests string) error {
	_, err := l.kubectl(ctx, strings.NewReader(manifests), "apply", "-f", "-")
	return err
}

// output is what a command printed; its error has what it said of its end.
func output(command *exec.Cmd) (string, error) {
	var printed, complaints bytes.Buffer
	command.Stdout, command.Stderr = &printed, &complaints
	if err := command.Run(); err != nil {
		name := filepath.Base(command.Path) + " " + strings.Join(command.Args[1:], " ")
		return "", errors.Join(fmt.Errorf("running %s: %w", name, err), errors.New(strings.TrimSpace(complaints.String())))
	}
	return printed.String(), nil
}
