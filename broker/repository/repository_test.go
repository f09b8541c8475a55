package repository_test

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/privyseal/privyseal/broker/brokertest"
	"github.com/privyseal/privyseal/broker/repository"
	"github.com/privyseal/privyseal/providers"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func overHTTPS(server *brokertest.GitServer) repository.Config {
	return repository.Config{URL: server.HTTPS, Branch: "main", Credentials: repository.Credentials{
		Password: providers.NewValue([]byte(server.Token)), CA: server.CA}}
}

func overSSH(server *brokertest.GitServer) repository.Config {
	return repository.Config{URL: server.SSH, Branch: "main", Credentials: repository.Credentials{
		PrivateKey: providers.NewValue(server.PrivateKey), KnownHosts: server.KnownHosts}}
}

// ways are those to reach a repository.
func ways() map[string]func(*brokertest.GitServer) repository.Config {
	return map[string]func(*brokertest.GitServer) repository.Config{"https": overHTTPS, "ssh": overSSH}
}

func open(t *testing.T, config repository.Config) *repository.Repository {
	t.Helper()
	opened, err := repository.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

func fetch(t *testing.T, from *repository.Repository) *repository.Tree {
	t.Helper()
	tree, err := from.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func commit(t *testing.T, to *repository.Repository, changes map[string][]byte) {
	t.Helper()
	if _, err := to.Commit(t.Context(), fetch(t, to), changes, "seal", noon()); err != nil {
		t.Fatal(err)
	}
}

func TestTheFirstCommitMakesTheBranchAndTheNextComesOnTopOfIt(t *testing.T) {
	for way, config := range ways() {
		t.Run(way, func(t *testing.T) {
			server := brokertest.NewGitServer(t)
			repo := open(t, config(server))
			if head, err := repo.Head(t.Context()); err != nil || head != "" {
				t.Fatalf("the empty repository has the head %q: %v", head, err)
			}
			commit(t, repo, map[string][]byte{"prod/pay/db.yaml": []byte("1"), "prod/pay/tls.yaml": []byte("2")})
			commit(t, repo, map[string][]byte{"prod/pay/db.yaml": []byte("3"), "prod/pay/tls.yaml": nil, "prod.yaml": []byte("4")})

			server.Git("fsck", "--strict")
			files := server.Files()
			if len(server.Commits()) != 2 || len(files) != 2 || files["prod/pay/db.yaml"] != "3" || files["prod.yaml"] != "4" {
				t.Errorf("commits %q with the files %v", server.Commits(), files)
			}
			tree := fetch(t, repo)
			if head, err := repo.Head(t.Context()); err != nil || head != tree.Head() || head == "" {
				t.Errorf("the head is %q (%v), the tree's %q", head, err, tree.Head())
			}
			if content, err := tree.File("prod/pay/db.yaml"); err != nil || string(content) != "3" {
				t.Errorf("the file holds %q: %v", content, err)
			}
			if _, err := tree.File("prod/pay/none.yaml"); !errors.Is(err, repository.ErrNoFile) {
				t.Errorf("a file that is not there: %v", err)
			}
		})
	}
}

func TestACommitOnTopOfALongHistoryKeepsIt(t *testing.T) {
	for way, config := range ways() {
		t.Run(way, func(t *testing.T) {
			server := brokertest.NewGitServer(t)
			for _, name := range []string{"README.md", "other/a.yaml", "other/b.yaml"} {
				server.Push(name, "theirs")
			}
			commit(t, open(t, config(server)), map[string][]byte{"prod/pay/db.yaml": []byte("1")})
			commit(t, open(t, config(server)), map[string][]byte{"prod/pay/db.yaml": nil})
			server.Git("fsck", "--strict")
			if files := server.Files(); len(server.Commits()) != 5 || len(files) != 3 || files["README.md"] != "theirs" {
				t.Errorf("commits %q, files %v", server.Commits(), files)
			}
		})
	}
}

func TestWhereSomebodyPushedMeanwhileNothingOfTheirsIsLost(t *testing.T) {
	for way, config := range ways() {
		t.Run(way, func(t *testing.T) {
			server := brokertest.NewGitServer(t)
			server.Push("README.md", "theirs")
			repo := open(t, config(server))
			tree := fetch(t, repo)
			server.Push("other.yaml", "theirs too")
			changes := map[string][]byte{"db.yaml": []byte("ours")}
			if _, err := repo.Commit(t.Context(), tree, changes, "seal", noon()); !errors.Is(err, repository.ErrConflict) {
				t.Fatalf("pushing over theirs: %v", err)
			}
			commit(t, repo, changes)
			files := server.Files()
			if len(server.Commits()) != 3 || files["other.yaml"] != "theirs too" || files["db.yaml"] != "ours" {
				t.Errorf("commits %q, files %v", server.Commits(), files)
			}
		})
	}
}

// Between our last look at the branch and the server's taking of the push there
// is a moment, too.
func TestWhereSomebodyIsFirstAtTheLastMomentItIsAConflict(t *testing.T) {
	server := brokertest.NewGitServer(t)
	server.Push("README.md", "theirs")
	repo := open(t, overHTTPS(server))
	tree := fetch(t, repo)
	server.BeforePush(func() { server.Push("other.yaml", "theirs too") })
	if _, err := repo.Commit(t.Context(), tree, map[string][]byte{"db.yaml": []byte("ours")}, "seal", noon()); !errors.Is(err, repository.ErrConflict) {
		t.Fatalf("pushing over theirs: %v", err)
	}
	if files := server.Files(); files["other.yaml"] != "theirs too" || files["db.yaml"] != "" {
		t.Errorf("the files are %v", files)
	}
}

func TestAFileIsNeverPutThroughSomethingThatIsNoFolder(t *testing.T) {
	server := brokertest.NewGitServer(t)
	server.Push("prod", "a file where a folder should be")
	repo := open(t, overHTTPS(server))
	for _, name := range []string{"prod/pay/db.yaml", "prod/db.yaml"} {
		if _, err := fetch(t, repo).File(name); !errors.Is(err, repository.ErrOccupied) {
			t.Errorf("looking at %s: %v", name, err)
		}
		if _, err := repo.Commit(t.Context(), fetch(t, repo), map[string][]byte{name: []byte("x")}, "seal", noon()); !errors.Is(err, repository.ErrOccupied) {
			t.Errorf("writing %s: %v", name, err)
		}
	}
	server.Push("folder/x", "y")
	if _, err := repo.Commit(t.Context(), fetch(t, repo), map[string][]byte{"folder": []byte("x")}, "seal", noon()); !errors.Is(err, repository.ErrOccupied) {
		t.Errorf("writing a file over a folder: %v", err)
	}
}

func TestAServerThatRefusesOrIsNotItselfIsDenied(t *testing.T) {
	server, other := brokertest.NewGitServer(t), brokertest.NewGitServer(t)
	wrongToken := overHTTPS(server)
	wrongToken.Credentials.Password = providers.NewValue([]byte("another"))
	noSuch := overHTTPS(server)
	noSuch.URL += "-not"
	stranger := overSSH(server)
	stranger.Credentials.KnownHosts = bytes.Replace(other.KnownHosts, []byte(port(other.KnownHosts)), []byte(port(server.KnownHosts)), 1)
	unknown := overSSH(server)
	unknown.Credentials.KnownHosts = other.KnownHosts
	for name, config := range map[string]repository.Config{
		"wrong token": wrongToken, "no such repository": noSuch,
		"another host key than the known": stranger, "a host that is not known": unknown,
	} {
		_, err := open(t, config).Head(t.Context())
		if !errors.Is(err, repository.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), server.Token) || strings.Contains(err.Error(), "another ")) {
			t.Errorf("%s: the error tells the token: %v", name, err)
		}
	}
	wrongKey := overSSH(server)
	wrongKey.Credentials.PrivateKey = providers.NewValue(other.PrivateKey)
	if _, err := open(t, wrongKey).Head(t.Context()); err == nil {
		t.Error("the server took a key that it does not know")
	}
}

func port(knownHosts []byte) string {
	_, rest, _ := strings.Cut(string(knownHosts), "]:")
	number, _, _ := strings.Cut(rest, " ")
	return number
}

func TestAServerThatIsDownIsUnavailable(t *testing.T) {
	for way, config := range ways() {
		server := brokertest.NewGitServer(t)
		server.Down(true)
		if _, err := open(t, config(server)).Fetch(t.Context()); !errors.Is(err, repository.ErrUnavailable) {
			t.Errorf("%s: %v", way, err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := open(t, config(server)).Fetch(gone); !errors.Is(err, repository.ErrUnavailable) {
			t.Errorf("%s: %v", way, err)
		}
	}
}

func TestWhatCannotBeUsedIsRefusedBeforeAnybodyIsAsked(t *testing.T) {
	key := brokertest.NewGitServer(t)
	token := repository.Credentials{Password: providers.NewValue([]byte("t"))}
	withKey := repository.Credentials{PrivateKey: providers.NewValue(key.PrivateKey), KnownHosts: key.KnownHosts}
	for _, row := range []struct {
		url, branch string
		credentials repository.Credentials
		names       string
	}{
		{"http://git.example.com/x.git", "main", token, "plain http"},
		{"file:///etc", "main", token, "url"},
		{"/etc", "main", token, "url"},
		{"git://git.example.com/x.git", "main", token, "scheme"},
		{"https://git.example.com", "main", token, "url"},
		{"https://me:secret@git.example.com/x.git", "main", token, "credentials"},
		{"ssh://git:secret@git.example.com/x.git", "main", withKey, "credentials"},
		{"https://git.example.com/x.git?a=b", "main", token, "path"},
		{"-oProxyCommand=x@host:path", "main", withKey, "url"},
		{"https://git.example.com/x.git", "a..b", token, "branch"},
		{"https://git.example.com/x.git", "main", repository.Credentials{}, "password"},
		{"https://git.example.com/x.git", "main", repository.Credentials{Password: token.Password, CA: []byte("x")}, "ca.crt"},
		{"git@git.example.com:x.git", "main", token, "ssh-privatekey"},
		{"git@git.example.com:x.git", "main", repository.Credentials{PrivateKey: withKey.PrivateKey}, "known_hosts is missing"},
		{"git@git.example.com:x.git", "main", repository.Credentials{PrivateKey: withKey.PrivateKey, KnownHosts: []byte("x")}, "known_hosts"},
		{"git@git.example.com:x.git", "main", repository.Credentials{PrivateKey: withKey.PrivateKey,
			KnownHosts: append([]byte("*"), key.KnownHosts...)}, "pattern"},
		{"git@git.example.com:x.git", "main", repository.Credentials{PrivateKey: withKey.PrivateKey,
			KnownHosts: append([]byte("@cert-authority "), key.KnownHosts...)}, "cert-authority"},
	} {
		_, err := repository.Open(repository.Config{URL: row.url, Branch: row.branch, Credentials: row.credentials})
		if !errors.Is(err, repository.ErrInvalid) || !strings.Contains(err.Error(), row.names) {
			t.Errorf("%s %s: %v, which should name %q", row.url, row.branch, err, row.names)
		}
		if err != nil && strings.Contains(err.Error(), "secret@") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
	for _, url := range []string{"git@git.example.com:ops/x.git", "ssh://git.example.com/x.git", "ssh://me@git.example.com:2222/x.git"} {
		if _, err := repository.Open(repository.Config{URL: url, Branch: "main", Credentials: withKey}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestASignedCommitIsOneThatItsKeyVerifies(t *testing.T) {
	entity, err := openpgp.NewEntity("Privyseal", "", "privyseal@example.com", &packet.Config{DefaultHash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	var private bytes.Buffer
	writer, err := armor.Encode(&private, openpgp.PrivateKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(entity.SerializePrivate(writer, nil), writer.Close()); err != nil {
		t.Fatal(err)
	}
	server := brokertest.NewGitServer(t)
	config := overHTTPS(server)
	config.SigningKey = providers.NewValue(private.Bytes())
	commit(t, open(t, config), map[string][]byte{"db.yaml": []byte("1")})

	raw := server.Git("cat-file", "commit", "main")
	signature, signed := splitSignature(raw)
	if _, err := openpgp.CheckArmoredDetachedSignature(openpgp.EntityList{entity}, strings.NewReader(signed), strings.NewReader(signature), nil); err != nil {
		t.Errorf("the signature does not hold: %v\n%s", err, raw)
	}
	config.SigningKey = providers.NewValue([]byte("x"))
	if _, err := repository.Open(config); !errors.Is(err, repository.ErrInvalid) {
		t.Errorf("a signing key that is none: %v", err)
	}
}

// splitSignature takes a commit's gpgsig header out of it.
func splitSignature(raw string) (signature, signed string) {
	var inside bool
	for line := range strings.Lines(raw) {
		rest, starts := strings.CutPrefix(line, "gpgsig ")
		switch {
		case starts:
			inside, signature = true, rest
		case inside && strings.HasPrefix(line, " "):
			signature += line[1:]
		default:
			inside = false
			signed += line
		}
	}
	return signature, signed
}

func TestOnlyFilesThatAreWantedAndSmallAreVisited(t *testing.T) {
	server := brokertest.NewGitServer(t)
	server.Push("a/b.yaml", "small")
	server.Push("a/large.yaml", strings.Repeat("x", 100))
	server.Push("a/c.md", "small")
	var visited []string
	err := fetch(t, open(t, overHTTPS(server))).Files(50,
		func(name string) bool { return filepath.Ext(name) == ".yaml" },
		func(name string, content []byte) { visited = append(visited, name+"="+string(content)) })
	if err != nil || !slices.Equal(visited, []string{"a/b.yaml=small"}) {
		t.Errorf("visited %q: %v", visited, err)
	}
}

func TestNothingIsWrittenToDisk(t *testing.T) {
	server := brokertest.NewGitServer(t)
	empty := t.TempDir()
	t.Setenv("TMPDIR", empty)
	commit(t, open(t, overSSH(server)), map[string][]byte{"db.yaml": []byte("1")})
	if left, err := os.ReadDir(empty); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
