package seal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/broker/seal"
)

// vectors is a file of docs/sealed-format.md's section Vectors.
type vectors struct {
	Comment string            `json:"comment"`
	Keys    map[string]string `json:"keys"`
	Cases   []vector          `json:"cases"`
}

type vector struct {
	Name       string      `json:"name"`
	Item       []byte      `json:"item"`
	Zeros      int         `json:"zeros,omitempty"`
	Label      vectorLabel `json:"label"`
	Keys       []string    `json:"keys"`
	Version    int         `json:"version"`
	Recipients []string    `json:"recipients,omitempty"`
	Value      *string     `json:"value,omitempty"` // base64
	Error      string      `json:"error,omitempty"`
}

type vectorLabel struct {
	Scope       string `json:"scope"`
	Environment string `json:"environment,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name,omitempty"`
	Item        string `json:"item,omitempty"`
}

// vectorErrors are the words that the files have for them.
var vectorErrors = map[string]error{
	"malformed": seal.ErrMalformed, "too large": seal.ErrTooLarge, "version": seal.ErrVersion,
	"no key": seal.ErrNoKey, "decrypt": seal.ErrDecrypt, "label": seal.ErrLabel,
}

func loadVectors(t testing.TB, name string) vectors {
	t.Helper()
	text := must(os.ReadFile(filepath.Join("testdata", name)))(t)
	var loaded vectors
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&loaded); err != nil {
		t.Fatalf("reading %s: %v", name, err)
	}
	return loaded
}

func (v vector) item() []byte { return slices.Concat(v.Item, make([]byte, v.Zeros)) }

func (v vector) label(t testing.TB) seal.Label {
	t.Helper()
	return seal.Label{
		Scope: must(seal.ParseScope(v.Label.Scope))(t), Environment: v.Label.Environment,
		Namespace: v.Label.Namespace, Name: v.Label.Name, Item: v.Label.Item,
	}
}

// pick makes a set of the keys that a case names, of either version.
func (f vectors) pick(t testing.TB, names []string) *seal.Keys {
	t.Helper()
	var rsa []*seal.RSAKey
	var hybrid []*seal.PrivateKey
	for _, name := range names {
		text := []byte(f.Keys[name])
		if bytes.Contains(text, []byte(seal.PrivateKeyType)) {
			hybrid = append(hybrid, must(seal.ParsePrivateKeys(text))(t)...)
		} else {
			rsa = append(rsa, must(seal.ParseRSAKey(text, nil))(t))
		}
	}
	return seal.NewKeys(rsa, hybrid)
}

func TestEveryVectorComesOutAsWrittenThroughEveryFunction(t *testing.T) {
	for _, name := range []string{"v1.json", "v2.json"} {
		file := loadVectors(t, name)
		for _, v := range file.Cases {
			t.Run(name+"/"+v.Name, func(t *testing.T) {
				checkVersion(t, v)
				checkParse(t, v)
				checkOpen(t, v, file.pick(t, v.Keys))
			})
		}
	}
}

func checkVersion(t *testing.T, v vector) {
	t.Helper()
	version, err := seal.Version(v.item())
	if err == nil && version != v.Version && v.Version != 0 {
		t.Errorf("Version: got %d, want %d", version, v.Version)
	}
	if err != nil && v.Version != 0 {
		t.Errorf("Version: %v", err)
	}
	if v.Error == "version" && !errors.Is(err, seal.ErrVersion) {
		t.Errorf("Version: got %v, want %v", err, seal.ErrVersion)
	}
}

func checkParse(t *testing.T, v vector) {
	t.Helper()
	sealed, err := seal.Parse(v.item())
	if v.Version == 0 {
		if !errors.Is(err, vectorErrors[v.Error]) {
			t.Errorf("Parse: got %v, want %s", err, v.Error)
		}
		return
	}
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	if sealed.Version() != v.Version {
		t.Errorf("Parse: version %d, want %d", sealed.Version(), v.Version)
	}
	var recipients []string
	for _, id := range sealed.Recipients() {
		recipients = append(recipients, id.String())
	}
	if !slices.Equal(recipients, v.Recipients) {
		t.Errorf("Recipients: got %v, want %v", recipients, v.Recipients)
	}
}

func checkOpen(t *testing.T, v vector, keys *seal.Keys) {
	t.Helper()
	opened, err := keys.Open(v.item(), v.label(t))
	if v.Value == nil {
		if want := vectorErrors[v.Error]; want == nil || !errors.Is(err, want) || opened.Value.Bytes() != nil {
			t.Errorf("Open: got %v, want %s", err, v.Error)
		}
		for word, other := range vectorErrors {
			if word != v.Error && errors.Is(err, other) {
				t.Errorf("Open: %v is also %s", err, word)
			}
		}
		return
	}
	want := must(base64.StdEncoding.DecodeString(*v.Value))(t)
	if err != nil || !bytes.Equal(opened.Value.Bytes(), want) {
		t.Errorf("Open: got %q, %v, want %q", reveal(opened), err, want)
	}
}

func pemBytes(t testing.TB, text []byte) []byte {
	t.Helper()
	block, rest := pem.Decode(text)
	if block == nil || len(rest) > 0 {
		t.Fatalf("not one PEM block: %s", text)
	}
	return block.Bytes
}
