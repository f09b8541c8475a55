package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Mode is what a lab consists of.
type Mode string

// The modes, as the environment variable LAB names them.
const (
	ModeNode         Mode = "node"          // all of it, with pods, in namespaces of its own; root
	ModeControlPlane Mode = "control-plane" // API server, controllers and Vault on loopback; anyone
	ModeExternal     Mode = "external"      // somebody else's cluster and Vault; starts nothing
)

// Config is what the lab's commands are told by flags and environment.
type Config struct {
	Name        string // LAB_NAME; "default" where none is given
	Mode        Mode   // LAB; node where none is given
	Source      string // the checkout's lab folder; empty outside of a checkout
	State       string // this lab's folder; outlives the lab
	Cache       string // built servers, shared by all labs
	EnvFile     string // where up writes how to reach the lab
	VaultMemory bool   // Vault keeps nothing; each start is a first start
	CleanCache  bool   // clean removes the built servers too
}

// options are the flags, which may stand anywhere before a "--".
type options struct {
	envFile     string
	vaultMemory bool
	cleanCache  bool
}

func parseOptions(args []string) (rest []string, o options, err error) {
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--":
			return append(rest, args[i+1:]...), o, nil
		case arg == "--env-file" && i+1 < len(args):
			i++
			o.envFile = args[i]
		case strings.HasPrefix(arg, "--env-file="):
			o.envFile = strings.TrimPrefix(arg, "--env-file=")
		case arg == "--vault-memory":
			o.vaultMemory = true
		case arg == "--cache":
			o.cleanCache = true
		case arg == "--entrypoint" || arg == "--user": // image's own
			rest = append(rest, arg)
		case strings.HasPrefix(arg, "--"):
			return nil, o, fmt.Errorf("%s: unknown flag; lab help lists them", arg)
		default:
			rest = append(rest, arg)
		}
	}
	return rest, o, nil
}

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$`)

// newConfig reads LAB, LAB_NAME and the XDG folders. KUBECONFIG and VAULT_*
// are never read (but in external mode): a lab must not meet, or be met by,
// the cluster that its user happens to be logged in to.
func newConfig(o options) (Config, error) {
	config := Config{
		Name:        cmp.Or(os.Getenv("LAB_NAME"), "default"),
		Mode:        Mode(cmp.Or(os.Getenv("LAB"), string(ModeNode))),
		EnvFile:     o.envFile,
		VaultMemory: o.vaultMemory,
		CleanCache:  o.cleanCache,
	}
	if !validName.MatchString(config.Name) {
		return config, fmt.Errorf("LAB_NAME=%s: want up to 20 lower-case letters, digits and dashes", config.Name)
	}
	state, err := folderOf("XDG_STATE_HOME", ".local/state")
	if err != nil {
		return config, err
	}
	cache, err := folderOf("XDG_CACHE_HOME", ".cache")
	if err != nil {
		return config, err
	}
	config.Cache = cache
	switch config.Mode {
	case ModeNode:
		config.State = filepath.Join(state, config.Name)
	case ModeControlPlane, ModeExternal:
		config.State = filepath.Join(state, config.Name+"."+string(config.Mode))
	default:
		return config, fmt.Errorf("LAB=%s: want node, control-plane or external", config.Mode)
	}
	config.Source = findSource()
	if config.EnvFile == "" && config.Source != "" {
		config.EnvFile = filepath.Join(filepath.Dir(config.Source), ".lab", "env")
	}
	if config.EnvFile != "" {
		config.EnvFile, err = filepath.Abs(config.EnvFile)
	}
	return config, err
}

func folderOf(variable, below string) (string, error) {
	base := os.Getenv(variable)
	if !filepath.IsAbs(base) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding a home folder: %w", err)
		}
		base = filepath.Join(home, below)
	}
	return filepath.Join(base, "privyseal-lab"), nil
}

// findSource looks from the working folder upwards for the checkout that the
// command was called in.
func findSource() string {
	dir, err := os.Getwd()
	for err == nil {
		for _, candidate := range []string{dir, filepath.Join(dir, "lab")} {
			if _, err := os.Stat(filepath.Join(candidate, "kube", "go.mod")); err == nil {
				return candidate
			}
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		break
	}
	return ""
}

var errNoSource = errors.New("no lab sources here: run this inside a checkout of Privyseal")

// path names something in the state folder.
func (c Config) path(parts ...string) string {
	return filepath.Join(append([]string{c.State}, parts...)...)
}
