package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// repositories serves git repositories over HTTPS, to whoever has the password:
// git's own http-backend, behind a certificate of the lab's authority. A
// repository is there as soon as somebody asks for it.
type repositories struct {
	folder, password string
	backend          cgi.Handler
}

const gitUser = "lab"

// serveGit is the command: it serves until it is told to end, and says how it
// is reached in a file env of the folder.
func serveGit(ctx context.Context, config Config, folder string) error {
	var s site
	if err := readJSON(config.path("site.json"), &s); err != nil {
		return fmt.Errorf("%w (%w)", errDown, err)
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return fmt.Errorf("looking for git: %w", err)
	}
	host := config.hostIP(s)
	ca, err := openAuthority(config.path("pki"))
	if err != nil {
		return err
	}
	if err := ca.issue(identity{file: "git", user: "git", hosts: []string{host, "127.0.0.1", "localhost"}}); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	r := &repositories{folder: folder, password: rand.Text(), backend: cgi.Handler{
		Path: git, Args: []string{"http-backend"}, Root: "/",
		Env: []string{"GIT_PROJECT_ROOT=" + folder, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + folder, "REMOTE_USER=" + gitUser},
	}}
	server := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() {
		ended <- server.ServeTLS(listener, config.path("pki", "git.crt"), config.path("pki", "git.key"))
	}()
	reach := env{
		{"GIT_URL", "https://" + listener.Addr().String()},
		{"GIT_USERNAME", gitUser},
		{"GIT_PASSWORD", r.password},
		{"GIT_CA_FILE", config.path("pki", "ca.crt")},
	}
	if err := reach.write(filepath.Join(folder, "env")); err != nil {
		return err
	}
	fmt.Printf("git repositories are served at https://%s/NAME.git, and %s says how to get in\n", listener.Addr(), filepath.Join(folder, "env"))
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return errors.Join(server.Close(), os.Remove(filepath.Join(folder, "env")))
	}
}

var repositoryPath = regexp.MustCompile(`^/([a-z0-9-]+\.git)(/|$)`)

// ServeHTTP implements http.Handler.
func (r *repositories) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	user, password, _ := request.BasicAuth()
	if user != gitUser || subtle.ConstantTimeCompare([]byte(password), []byte(r.password)) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	named := repositoryPath.FindStringSubmatch(request.URL.Path)
	if named == nil || strings.Contains(request.URL.Path, "..") {
		http.NotFound(w, request)
		return
	}
	if err := r.there(request.Context(), named[1]); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.backend.ServeHTTP(w, request)
}

// there makes a repository, unless it is there.
func (r *repositories) there(ctx context.Context, name string) error {
	path := filepath.Join(r.folder, name)
	if exists(filepath.Join(path, "HEAD")) {
		return nil
	}
	for _, arguments := range [][]string{
		{"init", "--quiet", "--bare", "--initial-branch=main", path},
		{"-C", path, "config", "http.receivepack", "true"},
	} {
		if output, err := exec.CommandContext(ctx, r.backend.Path, arguments...).CombinedOutput(); err != nil {
			return fmt.Errorf("making repository %s: %w: %s", name, err, output)
		}
	}
	return nil
}
