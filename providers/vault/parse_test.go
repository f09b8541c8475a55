package vault

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/providers"
)

func TestAValueIsTheSameBytesHoweverItWasSpelled(t *testing.T) {
	for encoded, want := range map[string]string{
		`""`:                              "",
		`"a"`:                             "a",
		`"\u003ca\u003e\n\"\ud83d\ude00"`: "<a>\n\"😀",
		`"true"`:                          "true",
		`true`:                            "true",
		`null`:                            "null",
		`0`:                               "0",
		`-0`:                              "-0",
		`1e400`:                           "1e400",
		`9007199254740993`:                "9007199254740993",
		`1.10`:                            "1.10",
		`[ 1 , 2 ]`:                       "[1,2]",
		`{ "b" : 1 , "a" : { } }`:         `{"a":{},"b":1}`,
		`{"a":"\u003c\u0026\u003e"}`:      `{"a":"<&>"}`,
	} {
		value, err := newValue(json.RawMessage(encoded))
		if err != nil || string(value.Bytes()) != want {
			t.Errorf("%s is %q, %v; want %q", encoded, value.Bytes(), err, want)
		}
	}
}

func TestDeletedAndDestroyedAreTold(t *testing.T) {
	for body, want := range map[string]error{
		`{"data":{"data":null,"metadata":{"deletion_time":"2026-01-01T00:00:00Z","destroyed":false,"version":2}}}`: providers.ErrDeleted,
		`{"data":{"data":null,"metadata":{"deletion_time":"","destroyed":true,"version":2}}}`:                      providers.ErrDeleted,
		`{"errors":[]}`:                       providers.ErrNotFound,
		`{"errors":["no handler for route"]}`: providers.ErrNotFound,
		``:                                    providers.ErrNotFound,
	} {
		if _, err := parseV2(answer{404, []byte(body)}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", body, err, want)
		}
	}
	// A version whose deletion is yet to come is there until then.
	document, err := parseV2(answer{200, []byte(
		`{"data":{"data":{"a":"b"},"metadata":{"deletion_time":"2036-01-01T00:00:00Z","destroyed":false,"version":2}}}`)})
	if err != nil || string(document.Values["a"].Bytes()) != "b" {
		t.Errorf("a document that will be deleted in ten years: %v", err)
	}
}

func TestNothingOfAnAnswerIsLeftInIt(t *testing.T) {
	got := answer{200, []byte(`{"data":{"a":"MARKER","b":["MARKER"]}}`)}
	document, err := parseV1(got)
	if err != nil {
		t.Fatal(err)
	}
	clear(got.body)
	if string(document.Values["a"].Bytes()) != "MARKER" || string(document.Values["b"].Bytes()) != `["MARKER"]` {
		t.Error("a value shares bytes with the answer that it came in")
	}
}

// FuzzAnswers: whatever a server says, there is a document or a fact, never
// both, and the server's words are not in the error.
func FuzzAnswers(f *testing.F) {
	for _, body := range []string{
		`{"data":{"a":"MARKER"}}`,
		`{"data":{"data":{"a":"MARKER"},"metadata":{"version":1,"deletion_time":"","destroyed":false}}}`,
		`{"data":{"data":null,"metadata":{"version":1,"deletion_time":"x","destroyed":true}}}`,
		`{"data":{"path":"kv/","type":"kv","options":{"version":"2"}}}`,
		`{"errors":["MARKER"]}`, `{"data":{"data":[]}}`, `{"data":{"a":{"b":[1,2.5,null,"\ud800"]}}}`, ``, `"`,
	} {
		f.Add(200, body)
		f.Add(404, body)
	}
	f.Fuzz(func(t *testing.T, code int, body string) {
		for _, parse := range []func(answer) (providers.Document, error){parseV1, parseV2} {
			document, err := parse(answer{code, []byte(body)})
			if err != nil && (!isFact(err) || document.Values != nil || strings.Contains(err.Error(), "MARKER")) {
				t.Fatalf("%d %q: %v with %d values", code, body, err, len(document.Values))
			}
			if err == nil && (code != 200 || document.Values == nil) {
				t.Fatalf("%d %q is a document", code, body)
			}
			document.Clear()
		}
		if m, err := parseMount([]byte(body)); err == nil {
			if !strings.HasSuffix(m.path, "/") || m.version != 1 && m.version != 2 {
				t.Fatalf("%q is the mount %+v", body, m)
			}
		} else if !isFact(err) || strings.Contains(err.Error(), "MARKER") {
			t.Fatalf("%q: %v", body, err)
		}
	})
}

func TestAMountIsTakenForWhatItsEngineIs(t *testing.T) {
	for body, want := range map[string]mount{
		`{"data":{"path":"kv/","type":"kv","options":{"version":"2"}}}`: {path: "kv/", engine: keyValue, version: 2},
		`{"data":{"path":"kv/","type":"kv","options":null}}`:            {path: "kv/", engine: keyValue, version: 1},
		`{"data":{"path":"secret","type":"generic"}}`:                   {path: "secret/", engine: keyValue, version: 1},
		`{"data":{"path":"db/","type":"database","options":null}}`:      {path: "db/", engine: database},
	} {
		if found, err := parseMount([]byte(body)); err != nil || found != want {
			t.Errorf("%s is %+v, %v", body, found, err)
		}
	}
	_, err := parseMount([]byte(`{"data":{"path":"pki/","type":"pki"}}`))
	if !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "neither") {
		t.Errorf("an engine that nothing is read from: %v", err)
	}
}

func TestADatabaseEngineIsNeverReadForAUser(t *testing.T) {
	for rest, want := range map[string]error{
		"creds/payments-rw":     providers.ErrLeased,
		"creds/payments/rw":     providers.ErrLeased,
		"creds":                 providers.ErrInvalid,
		"static-creds/payments": nil,
		"static-creds":          providers.ErrInvalid,
		"static-roles/payments": providers.ErrInvalid,
		"rotate-role/payments":  providers.ErrInvalid,
		"config/main":           providers.ErrInvalid,
		"roles/payments-rw":     providers.ErrInvalid,
	} {
		if err := readDatabase(rest); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", rest, err, want)
		}
	}
}
