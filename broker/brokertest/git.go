package brokertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"context"
)

// Git is a server of git repositories that pods reach.
type Git struct {
	// URL to put the name of a repository behind; it is there when it is asked
	// for.
	URL string
	// Username and Password of its one user.
	Username, Password string
	// CA is the certificate that the server's is signed by, in PEM.
	CA string

	folder string
}

// NewGit serves repositories until the test ends.
func (l *Lab) NewGit(t testing.TB) *Git {
	t.Helper()
	g := &Git{folder: t.TempDir()}
	server := l.Command(context.Background(), "git", g.folder)
	var log safeBuffer
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatalf("starting a git server: %v", err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(os.Interrupt)
		if err := server.Wait(); err != nil {
			t.Errorf("the git server ended with %v: %s", err, log.String())
		}
	})
	var reach map[string]string
	Eventually(t, 10*time.Second, func(context.Context) error {
		content, err := os.ReadFile(filepath.Join(g.folder, "env"))
		reach = map[string]string{}
		for line := range strings.Lines(string(content)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			reach[name] = value
		}
		return err
	})
	ca, err := os.ReadFile(reach["GIT_CA_FILE"])
	if err != nil {
		t.Fatal(err)
	}
	g.URL, g.Username, g.Password, g.CA = reach["GIT_URL"], reach["GIT_USERNAME"], reach["GIT_PASSWORD"], string(ca)
	return g
}

// Run runs git on a repository of the server's, and gives what it printed.
func (g *Git) Run(ctx context.Context, repository string, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, "git", append([]string{"-C", filepath.Join(g.folder, repository)}, arguments...)...)
	output, err := command.CombinedOutput()
	return string(output), err
}
