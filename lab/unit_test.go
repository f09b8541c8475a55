package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestContentKeyIsOfWhatAProgramIsMadeFrom(t *testing.T) {
	key := func(files map[string]string, salt string) string {
		fs := fstest.MapFS{}
		for name, content := range files {
			fs[name] = &fstest.MapFile{Data: []byte(content)}
		}
		key, err := keyOf(fs, salt)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	base := key(map[string]string{"go.mod": "m", "main.go": "a"}, "go1")
	same := map[string]string{
		"a test is no part of it":   key(map[string]string{"go.mod": "m", "main.go": "a", "main_test.go": "t"}, "go1"),
		"a README is no part of it": key(map[string]string{"go.mod": "m", "main.go": "a", "README.md": "r"}, "go1"),
	}
	for why, got := range same {
		if got != base {
			t.Errorf("%s: the key changed", why)
		}
	}
	other := map[string]string{
		"a source changed":             key(map[string]string{"go.mod": "m", "main.go": "b"}, "go1"),
		"a dependency changed":         key(map[string]string{"go.mod": "n", "main.go": "a"}, "go1"),
		"a sum came":                   key(map[string]string{"go.mod": "m", "go.sum": "s", "main.go": "a"}, "go1"),
		"Go changed":                   key(map[string]string{"go.mod": "m", "main.go": "a"}, "go2"),
		"content moved between files":  key(map[string]string{"go.mod": "ma", "main.go": ""}, "go1"),
		"a file has another name":      key(map[string]string{"go.mod": "m", "other.go": "a"}, "go1"),
		"a source was split into two":  key(map[string]string{"go.mod": "m", "main.go": "", "other.go": "a"}, "go1"),
		"the sources are all there is": key(map[string]string{}, "go1"),
	}
	for why, got := range other {
		if got == base {
			t.Errorf("%s: the key did not", why)
		}
	}
}

func TestCertificatesOutliveALab(t *testing.T) {
	dir := t.TempDir()
	node := site{Host: "198.18.240.1", API: 6443, Vault: 8200}
	issue := func(s site) map[string]string {
		t.Helper()
		if err := s.issueAll(dir); err != nil {
			t.Fatal(err)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		content := map[string]string{}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			content[filepath.Base(file)] = string(b)
		}
		return content
	}
	first, second := issue(node), issue(node)
	for file := range first {
		if first[file] != second[file] {
			t.Errorf("%s was made anew", file)
		}
	}

	node.Host = "198.18.241.1"
	moved := issue(node)
	if moved["ca.crt"] != first["ca.crt"] || moved["admin.crt"] != first["admin.crt"] {
		t.Error("a new address changed certificates that do not name it")
	}
	if moved["vault.crt"] == first["vault.crt"] {
		t.Error("Vault's certificate does not follow its address")
	}

	// A kill between the writing of a key and of its certificate.
	if err := os.WriteFile(filepath.Join(dir, "admin.key"), []byte(moved["vault.key"]), 0o600); err != nil {
		t.Fatal(err)
	}
	if issue(node)["admin.crt"] == moved["admin.crt"] {
		t.Error("a pair that does not match was kept")
	}
	info, err := os.Stat(filepath.Join(dir, "ca.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("ca.key: mode %v, %v", info.Mode(), err)
	}
}

func TestEnvIsPlainAndPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "env")
	if err := (env{{"A", "https://x:1"}, {"B", ""}}).write(path); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || string(content) != "A=https://x:1\nB=\n" {
		t.Errorf("got %q, %v", content, err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	for _, value := range []string{"a b", "a\nB=c", `a"b`, "a$b", "a'b", "a#b"} {
		if (env{{"A", value}}).write(path) == nil {
			t.Errorf("%q would need quotes, and was written", value)
		}
	}
}

func TestImagesOfTheSameFilesAreTheSameBytes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	archive := func(pic picture) []byte {
		t.Helper()
		img, err := pic.make()
		if err != nil {
			t.Fatal(err)
		}
		tag, err := name.NewTag(pic.tag)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := tarball.Write(tag, img, &out); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	pic := picture{tag: "privyseal/privyseal:dev", entrypoint: []string{"/a/b"}, user: "65532:65532",
		files: map[string]string{"/a/b": file, "/c": file}, links: map[string]string{"/d": "c"}}
	first := archive(pic)
	if err := os.Chtimes(file, time.Now(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, archive(pic)) {
		t.Error("the same files made another archive")
	}
	if !bytes.Contains(first, []byte(`"RepoTags":["privyseal/privyseal:dev"]`)) {
		t.Error("the archive does not have the plain tag")
	}
	if err := os.WriteFile(file, []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, archive(pic)) {
		t.Error("other files made the same archive")
	}
}

func TestAnImageIsFoundByItsName(t *testing.T) {
	listing := "REF TYPE DIGEST SIZE\n" +
		"registry.example/privyseal/privyseal:dev t sha256:m1 1\n" +
		"sha256:c1 t sha256:m1 1\n" +
		"sha256:c2 t sha256:m2 1\n"
	if got := strings.Join(findImage(listing, "privyseal/privyseal:dev"), " "); got != "sha256:c1" {
		t.Errorf("got %q", got)
	}
	if got := findImage(listing, "seal:dev"); got != nil {
		t.Errorf("half a name found %q", got)
	}
}

func TestAWriteIsWholeOrNotThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := write(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := write(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestPostgreSQLSaysItsVersion(t *testing.T) {
	for said, want := range map[string]int{
		"initdb (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15,
		"initdb (PostgreSQL) 9.6.24\n":                         9,
		"initdb (PostgreSQL) 18beta1\n":                        0,
		"":                                                     0,
	} {
		if got := majorVersion(said); got != want {
			t.Errorf("%q: got %d, want %d", said, got, want)
		}
	}
}

func TestWhatIsChangedMeanwhileIsPutBack(t *testing.T) {
	dir := t.TempDir()
	there, absent := filepath.Join(dir, "there"), filepath.Join(dir, "sub", "absent")
	if err := os.WriteFile(there, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{there, absent} {
		putBack, err := meanwhile(path, "meanwhile", 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(path); err != nil || string(content) != "meanwhile" {
			t.Errorf("got %q, %v", content, err)
		}
		putBack()
	}
	if content, err := os.ReadFile(there); err != nil || string(content) != "before" {
		t.Errorf("put back: %q, %v", content, err)
	}
	if exists(absent) {
		t.Error("a file that was not there is left")
	}
}

func TestTheFirstErrorEndsTheOthers(t *testing.T) {
	wrong := errors.New("wrong")
	err := together(context.Background(),
		func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) },
		func(context.Context) error { return wrong },
	)
	if !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
}

func TestADeadServerIsNamedWithItsLastWords(t *testing.T) {
	log := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(log, []byte(strings.Repeat("line\n", 30)+"last\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dead := deadServer{process: &process{server: server{name: "x"}, log: log}, cause: errors.New("ended: exit status 1")}
	if lines := strings.Split(dead.Error(), "\n"); len(lines) != 21 || lines[20] != "  last" || !strings.HasPrefix(lines[0], "x ended: exit status 1;") {
		t.Errorf("got %q", lines)
	}
}
