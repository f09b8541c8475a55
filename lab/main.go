// Command lab runs a real Kubernetes and a real Vault on this machine, built
// from their Go modules, and Debian's PostgreSQL, for demos and tests.
//
// The idea: one process owns everything. In the default mode it is the first
// process of a PID, mount and network namespace of its own, so that its end,
// by whatever signal, is the end of every server, pod, mount, bridge and
// firewall rule; the kernel cleans up, and no code here has to. What shall
// outlive it (certificates, the servers' data, images, logs) lies in one
// state folder. Nothing in the namespace has a route out of the machine.
//
// The command that people type is only a client of that process: it builds the
// servers once, starts the supervisor, follows its progress and writes down how
// to reach it. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

const usage = `lab runs a real Kubernetes and a real Vault for demos and tests.

  lab check                    look for what the lab needs; as root, install it
  lab build                    build the servers (once; kept in the cache)
  lab up                       start a lab, or find the one that runs
  lab down                     end it; its state stays
  lab clean [--cache]          end it and remove its state (and the built servers)
  lab status                   what runs, where
  lab env                      how to reach it, as KEY=value lines
  lab exec -- COMMAND...       run a command inside the lab's namespaces
  lab stop|start|kill SERVER   vault, postgres, etcd, kubelet, kube-apiserver, ...
  lab pause|resume SERVER      it hangs: it is there, and answers nobody
  lab vault seal|unseal
  lab vault slow TIME|off      it answers up to a time late, such as 3s
  lab vault write PATH JSON    write at any path of Vault's API, as root
  lab image NAME:TAG [--entrypoint /x] [--user UID:GID] HOST-PATH=/IMAGE-PATH...
                               make an image of files and give it to the node
  lab git FOLDER               serve the git repositories of a folder over HTTPS, where
                               pods reach them; FOLDER/env says how

  --env-file FILE              where up writes the env (default .lab/env in the checkout)
  --vault-memory               up: Vault keeps its data in memory only, for benches

  LAB=node            (default) a node that runs pods; needs root
  LAB=control-plane   API server, controllers and Vault on 127.0.0.1; needs no root
  LAB=external        starts nothing; takes LAB_KUBECONFIG, VAULT_ADDR, VAULT_TOKEN
  LAB_NAME=x          a second lab beside the default one
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	var code exitCode
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	default:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

// exitCode ends the program with a child's code and no message of ours.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

var errUsage = errors.New("unknown or incomplete command; lab help lists them")

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return exitCode(2)
	}
	verb, rest := args[0], args[1:]
	switch verb { // not for people: the lab's own processes
	case "init":
		return runInit(rest[0])
	case "supervise":
		return runSupervisor(rest[0])
	case "help", "-h", "--help":
		fmt.Print(usage)
		return nil
	}
	rest, options, err := parseOptions(rest)
	if err != nil {
		return err
	}
	config, err := newConfig(options)
	if err != nil {
		return err
	}
	return command(ctx, config, verb, rest)
}

func command(ctx context.Context, config Config, verb string, args []string) error {
	switch verb {
	case "check":
		if err := check(ctx, config); err != nil {
			return err
		}
		fmt.Printf("all that a lab of mode %s needs is here\n", config.Mode)
		return nil
	case "build":
		_, err := buildAll(ctx, config)
		return err
	case "up":
		return up(ctx, config)
	case "down":
		return down(ctx, config)
	case "clean":
		return clean(ctx, config)
	case "status":
		return status(ctx, config)
	case "env":
		return printEnv(config)
	case "exec":
		return enter(ctx, config, args)
	case "image":
		return image(ctx, config, args)
	case "git":
		if len(args) != 1 {
			return errUsage
		}
		return serveGit(ctx, config, args[0])
	case "stop", "start", "kill", "pause", "resume":
		if len(args) != 1 {
			return errUsage
		}
		return ask(ctx, config.State, verb+" "+args[0], os.Stdout)
	case "vault":
		return vault(ctx, config, args)
	}
	return errUsage
}

// vault is what is done to the lab's Vault.
func vault(ctx context.Context, config Config, args []string) error {
	switch {
	case len(args) == 1 && (args[0] == "seal" || args[0] == "unseal"), len(args) == 2 && args[0] == "slow":
		return ask(ctx, config.State, strings.Join(args, " "), os.Stdout)
	case len(args) == 3 && args[0] == "write":
		return writeVault(ctx, config, args[1], args[2])
	}
	return errUsage
}
