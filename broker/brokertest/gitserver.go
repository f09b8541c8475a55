package brokertest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
)

// GitServer is a real git repository behind git's own http-backend with TLS and
// behind an ssh server, both on loopback. The ssh server is of Go's ssh package
// and runs git's own upload-pack and receive-pack: OpenSSH's is not installed
// everywhere.
type GitServer struct {
	// HTTPS and SSH are the repository's addresses.
	HTTPS, SSH string
	// Token is the password that HTTPS takes, of any user.
	Token string
	// CA is the certificate of HTTPS, as PEM.
	CA []byte
	// PrivateKey is one that SSH takes, as PEM; KnownHosts its host key.
	PrivateKey, KnownHosts []byte

	test      testing.TB
	directory string
	down      atomic.Bool
	before    atomic.Pointer[func()]
}

// NewGitServer serves an empty repository.
func NewGitServer(t testing.TB) *GitServer {
	t.Helper()
	g := &GitServer{test: t, Token: "a token of " + t.Name(), directory: filepath.Join(t.TempDir(), "copies.git")}
	g.run("", "init", "--quiet", "--bare", "--initial-branch=main", g.directory)
	g.run(g.directory, "config", "http.receivepack", "true")
	g.serveHTTPS(strings.TrimSpace(g.run("", "--exec-path")))
	g.serveSSH()
	return g
}

// Down has the server break off every connection, until it is up again.
func (g *GitServer) Down(down bool) { g.down.Store(down) }

// BeforePush has a function run once when the next push arrives, before it is
// taken: it is how somebody else is first.
func (g *GitServer) BeforePush(first func()) { g.before.Store(&first) }

func (g *GitServer) arrives(service string) {
	if !strings.Contains(service, "git-receive-pack") {
		return
	}
	if first := g.before.Swap(nil); first != nil {
		(*first)()
	}
}

// Commits are the subjects on the branch, newest first.
func (g *GitServer) Commits() []string {
	g.test.Helper()
	output, err := g.command(g.directory, "log", "--format=%s", "main").Output()
	if err != nil {
		return nil // there is no branch yet
	}
	return strings.Split(strings.TrimSpace(string(output)), "\n")
}

// Files are the branch's files by path, all of one commit: somebody may push
// meanwhile.
func (g *GitServer) Files() map[string]string {
	g.test.Helper()
	files := map[string]string{}
	output, err := g.command(g.directory, "rev-parse", "--verify", "--quiet", "main").Output()
	if err != nil {
		return files // there is no branch yet
	}
	commit := strings.TrimSpace(string(output))
	for name := range strings.SplitSeq(strings.Trim(g.run(g.directory, "ls-tree", "-r", "-z", "--name-only", commit), "\x00"), "\x00") {
		if name != "" {
			files[name] = g.run(g.directory, "show", commit+":"+name)
		}
	}
	return files
}

// Push pushes a file as somebody else.
func (g *GitServer) Push(name, content string) {
	g.test.Helper()
	clone := filepath.Join(g.test.TempDir(), "clone")
	g.run("", "clone", "--quiet", g.directory, clone)
	file := filepath.Join(clone, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		g.test.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		g.test.Fatal(err)
	}
	g.run(clone, "add", "--all")
	g.run(clone, "commit", "--quiet", "--message", "somebody's "+name)
	g.run(clone, "push", "--quiet", "origin", "HEAD:main")
}

// Git runs git in the repository and gives what it prints.
func (g *GitServer) Git(args ...string) string {
	g.test.Helper()
	return g.run(g.directory, args...)
}

func (g *GitServer) run(directory string, args ...string) string {
	g.test.Helper()
	output, err := g.command(directory, args...).CombinedOutput()
	if err != nil {
		g.test.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return string(output)
}

func (g *GitServer) command(directory string, args ...string) *exec.Cmd {
	command := exec.Command("git", args...)
	command.Dir = directory
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Somebody", "GIT_AUTHOR_EMAIL=somebody@example.com",
		"GIT_COMMITTER_NAME=Somebody", "GIT_COMMITTER_EMAIL=somebody@example.com")
	return command
}

func (g *GitServer) serveHTTPS(binaries string) {
	backend := &cgi.Handler{
		Path: filepath.Join(binaries, "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(g.directory), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=git",
			"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1"},
		Stderr: io.Discard,
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		switch {
		case g.down.Load():
			panic(http.ErrAbortHandler)
		case password != g.Token:
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
		default:
			if r.Method == http.MethodPost {
				g.arrives(r.URL.Path)
			}
			backend.ServeHTTP(w, r)
		}
	}))
	server.StartTLS()
	g.test.Cleanup(server.Close)
	g.HTTPS = server.URL + "/" + filepath.Base(g.directory)
	g.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

func (g *GitServer) serveSSH() {
	host, _ := g.sshKey()
	client, text := g.sshKey()
	g.PrivateKey = text
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(client.PublicKey().Marshal()) {
			return nil, fmt.Errorf("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(host)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.test.Fatal(err)
	}
	g.test.Cleanup(func() { _ = listener.Close() })
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		g.test.Fatal(err)
	}
	g.SSH = fmt.Sprintf("ssh://git@127.0.0.1:%s%s", port, g.directory)
	g.KnownHosts = fmt.Appendf(nil, "[127.0.0.1]:%s %s", port, ssh.MarshalAuthorizedKey(host.PublicKey()))
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go g.session(connection, config)
		}
	}()
}

func (g *GitServer) sshKey() (ssh.Signer, []byte) {
	g.test.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		g.test.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		g.test.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		g.test.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

// session serves one ssh connection: one channel, one command.
func (g *GitServer) session(connection net.Conn, config *ssh.ServerConfig) {
	defer func() { _ = connection.Close() }()
	if g.down.Load() {
		return
	}
	_, channels, requests, err := ssh.NewServerConn(connection, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for arriving := range channels {
		if arriving.ChannelType() != "session" {
			_ = arriving.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := arriving.Accept()
		if err != nil {
			return
		}
		for request := range requests {
			var asked struct{ Command string }
			is := request.Type == "exec" && ssh.Unmarshal(request.Payload, &asked) == nil
			_ = request.Reply(is, nil)
			if is {
				go g.exec(channel, asked.Command)
			}
		}
	}
}

func (g *GitServer) exec(channel ssh.Channel, asked string) {
	service, repository, _ := strings.Cut(asked, " ")
	code := uint32(128)
	if known := service == "git-upload-pack" || service == "git-receive-pack"; known && strings.Trim(repository, "'") == g.directory {
		g.arrives(service)
		command := g.command("", strings.TrimPrefix(service, "git-"), g.directory)
		command.Stdout, command.Stderr = channel, channel.Stderr()
		input, err := command.StdinPipe()
		if err == nil && command.Start() == nil {
			go func() {
				_, _ = io.Copy(input, channel)
				_ = input.Close()
			}()
			if command.Wait() == nil {
				code = 0
			}
		}
	}
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{code}))
	_ = channel.Close()
}
