package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// module is one Go module of servers. They are modules of their own since they
// want other versions of Kubernetes' libraries. Of what several of them have in
// common they name the same version, so that the Go tool compiles it once: a
// test holds that.
type module struct {
	name    string
	program string   // file name of what is built
	links   []string // further names of it: the program acts by its name
	minutes int      // a cold build on two cores, for the progress line
	ldflags string
}

const kubernetesVersion = "1.34.4"

var modules = []module{
	{name: "etcd", program: "etcd", minutes: 2, ldflags: "-s -w"},
	{name: "kube", program: "kube", minutes: 10, ldflags: "-s -w" +
		" -X k8s.io/component-base/version.gitVersion=v" + kubernetesVersion +
		" -X k8s.io/component-base/version.gitMajor=1" +
		" -X k8s.io/component-base/version.gitMinor=34",
		links: []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"}},
	{name: "vault", program: "vault", minutes: 6, ldflags: "-s -w"},
	{name: "dns", program: "coredns", minutes: 3, ldflags: "-s -w"},
	{name: "pause", program: "pause", minutes: 1, ldflags: "-s -w"},
	{name: "pgclient", program: "pgclient", minutes: 1, ldflags: "-s -w"},
}

// gcflags leave out the debug information that -s -w would drop at the end:
// a quarter of the time goes into it.
const gcflags = "all=-dwarf=false"

// modulesOf leaves out what a mode does not start.
func modulesOf(mode Mode) []module {
	if mode == ModeNode {
		return modules
	}
	return modules[:3]
}

// servers are built programs.
type servers struct {
	Programs map[string]string // name, as "kubelet", to path
	Key      string            // over all modules' content: one key, one set of servers
}

// buildAll builds what is not in the cache yet.
func buildAll(ctx context.Context, config Config) (servers, error) {
	built := servers{Programs: map[string]string{}}
	if config.Source == "" {
		return built, errNoSource
	}
	all := sha256.New()
	io.WriteString(all, starterKey())
	version := goVersion(ctx)
	wanted := modulesOf(config.Mode)
	dirs := make([]string, len(wanted))
	for i, m := range wanted {
		key, err := contentKey(filepath.Join(config.Source, m.name), version+gcflags+m.ldflags)
		if err != nil {
			return built, fmt.Errorf("reading module %s: %w", m.name, err)
		}
		dirs[i] = filepath.Join(config.Cache, m.name+"-"+key)
		io.WriteString(all, m.name+key)
		for _, name := range append([]string{m.program}, m.links...) {
			built.Programs[name] = filepath.Join(dirs[i], name)
		}
	}
	built.Key = hex.EncodeToString(all.Sum(nil))[:16]

	fetching, stop := context.WithCancel(ctx)
	defer stop()
	go fetch(fetching, config, wanted, dirs)
	for i, m := range wanted {
		if err := buildOnce(ctx, config, m, dirs[i]); err != nil {
			return built, fmt.Errorf("building %s: %w", m.name, err)
		}
	}
	return built, nil
}

// fetch downloads what the modules that are not built yet are made from, while
// those before them are compiled. What goes wrong is told by the build itself.
func fetch(ctx context.Context, config Config, wanted []module, dirs []string) {
	for i, m := range wanted {
		if exists(dirs[i]) {
			continue
		}
		list := exec.CommandContext(ctx, "go", "list", "-deps", ".")
		list.Dir, list.Env = filepath.Join(config.Source, m.name), buildEnv()
		_ = list.Run()
	}
}

// The starter's own sources: they hold the servers' command lines, so a lab
// that another version of them started is not this checkout's lab.
//
//go:embed *.go go.mod
var starterSources embed.FS

func starterKey() string {
	key, err := keyOf(starterSources, runtime.Version())
	if err != nil {
		panic(err) // an embedded file cannot be unreadable
	}
	return key
}

// contentKey is a digest of what a module's program is made from.
func contentKey(dir, salt string) (string, error) { return keyOf(os.DirFS(dir), salt) }

func keyOf(files fs.FS, salt string) (string, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, salt)
	for _, entry := range entries { // sorted by name
		name := entry.Name()
		source := strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
		if !source && name != "go.mod" && name != "go.sum" {
			continue
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(content))
		sum.Write(content)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// buildOnce makes dir with the module's program in it, unless it is there. A
// lock keeps two checkouts from building the same; the name comes last, so
// that a folder with that name is always whole.
func buildOnce(ctx context.Context, config Config, m module, dir string) error {
	if exists(dir) {
		return nil
	}
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if exists(dir) {
		return nil
	}
	fmt.Printf("building %s: takes about %d min the first time on two cores\n", m.name, m.minutes)
	scratch, err := os.MkdirTemp(config.Cache, m.name+"-building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if err := os.Chmod(scratch, 0o755); err != nil {
		return err
	}
	started := time.Now()
	if err := compile(ctx, filepath.Join(config.Source, m.name), filepath.Join(scratch, m.program), m); err != nil {
		return err
	}
	for _, link := range m.links {
		if err := os.Symlink(m.program, filepath.Join(scratch, link)); err != nil {
			return err
		}
	}
	fmt.Printf("built %s (%.0f s)\n", m.name, time.Since(started).Seconds())
	return os.Rename(scratch, dir)
}

// compile shows a sign of life while the Go tool works in silence.
func compile(ctx context.Context, source, program string, m module) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-gcflags="+gcflags, "-ldflags="+m.ldflags, "-o", program, ".")
	cmd.Dir, cmd.Env = source, buildEnv()
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	started, beat := time.Now(), time.NewTicker(8*time.Second)
	defer beat.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-beat.C:
			fmt.Printf("  still building %s: %.0f s\n", m.name, time.Since(started).Seconds())
		}
	}
}

// buildEnv is the environment of the Go tool. A quarter of the compiler's time
// would be its own garbage collection, so it may use some more memory.
func buildEnv() []string {
	return append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GOFLAGS=") }),
		"CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOOS=linux", "GOARCH=amd64", "GOGC=400", "GOMEMLIMIT=2GiB")
}

func goVersion(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if err != nil {
		return runtime.Version()
	}
	return strings.TrimSpace(string(out))
}
