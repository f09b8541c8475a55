package providers_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/providers"
)

func TestParseRefTakesWhatHasOneReading(t *testing.T) {
	longest := strings.Repeat("a", 512)
	for _, row := range []struct{ path, want string }{
		{"kv/prod/payments/db", "kv/prod/payments/db"},
		{"/kv/prod/payments/db", "kv/prod/payments/db"},
		{"kv", "kv"},
		// Vault's own infix is a name like any other here: the provider puts
		// data/ before it in any case, so this is the document "data/x" of the
		// mount and never a second spelling of kv/x.
		{"kv/data/x", "kv/data/x"},
		{"kv/metadata/x", "kv/metadata/x"},
		{"kv/...", "kv/..."},
		{"kv/..x/x..", "kv/..x/x.."},
		{"kv/.hidden", "kv/.hidden"},
		{"kv/two words", "kv/two words"},
		{"kv/a+b&c=d;e,f:g@h!$'()~_-", "kv/a+b&c=d;e,f:g@h!$'()~_-"},
		{`kv/"<>[]{}|^` + "`", `kv/"<>[]{}|^` + "`"},
		{"kv/DB", "kv/DB"},
		{longest, longest},
	} {
		ref, err := providers.ParseRef(row.path)
		if err != nil || ref.String() != row.want {
			t.Errorf("ParseRef(%q) = %q, %v; want %q", row.path, ref, err, row.want)
		}
	}
}

// TestParseRefRefusesEveryWayOut is the table of escapes (decision D10): each
// of them is, somewhere between us and a store, another way to write a path.
func TestParseRefRefusesEveryWayOut(t *testing.T) {
	for path, trick := range map[string]string{
		"":                        "no path",
		"/":                       "no path",
		"//":                      "empty segments",
		"//kv/x":                  "two leading slashes, a host to some",
		"kv//x":                   "a doubled slash",
		"kv/x/":                   "a trailing slash, a list to Vault",
		"kv/x//":                  "two of them",
		".":                       "here",
		"..":                      "above",
		"kv/..":                   "above the mount",
		"kv/../sys/raw":           "another mount",
		"../kv/x":                 "above the root",
		"kv/a/../../sys":          "above, twice",
		"kv/./x":                  "a segment that says nothing",
		"kv/x/.":                  "the same at the end",
		"kv/%2e%2e/sys":           "encoded dots",
		"kv/%2E%2E/sys":           "encoded dots, upper case",
		"kv%2fx":                  "an encoded slash",
		"kv/%252e%252e/sys":       "encoded twice",
		"kv/100%":                 "a bare percent sign",
		`kv\..\sys`:               "backslashes",
		`kv/x\y`:                  "a backslash",
		"kv/*":                    "a wildcard",
		"kv/**":                   "two",
		"kv/x*":                   "one inside",
		"kv/x?version=1":          "a query",
		"kv/x#y":                  "a fragment",
		"kv/x\x00":                "a zero byte",
		"kv/x\n":                  "a line's end",
		"kv/\r\nX-Vault-Token: x": "a header",
		"kv/\tx":                  "a tab",
		"kv/\x7f":                 "delete",
		"kv/ x":                   "a leading space",
		"kv/x ":                   "a trailing space",
		"kv/ ":                    "nothing but space",
		" kv/x":                   "a leading space in front",
		"kv/.. ":                  "dots and a space",
		"kv/é":                    "outside ASCII",
		"kv/e\u0301":              "outside ASCII, the same to a reader",
		"kv/\uff0e\uff0e/x":       "full-width dots",
		"kv\u2215x":               "a slash to a reader alone",
		"kv/\u202ex":              "text that turns round",
		"kv/\xff":                 "no UTF-8",
		strings.Repeat("a", 513):  "one byte too long",
	} {
		ref, err := providers.ParseRef(path)
		if !errors.Is(err, providers.ErrPath) {
			t.Errorf("ParseRef(%q) (%s) = %q, %v; want ErrPath", path, trick, ref, err)
		}
		if !ref.IsZero() {
			t.Errorf("ParseRef(%q) refuses and returns %q all the same", path, ref)
		}
	}
}

func TestTheZeroRefIsNoPath(t *testing.T) {
	var zero providers.Ref
	if !zero.IsZero() || zero.String() != "" {
		t.Error("the zero Ref is a path")
	}
}

// FuzzParseRef: what ParseRef takes is canonical, and has no segment that
// anything between us and the store reads as more or less than its own text.
func FuzzParseRef(f *testing.F) {
	for _, seed := range []string{
		"kv/prod/db", "/kv/x", "kv/../x", "kv//x", "kv/%2e%2e/x", `kv\x`, "kv/data/x", "kv/ x", "kv/é", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		ref, err := providers.ParseRef(path)
		if err != nil {
			if !errors.Is(err, providers.ErrPath) || !ref.IsZero() {
				t.Fatalf("ParseRef(%q) = %q, %v", path, ref, err)
			}
			return
		}
		if again, err := providers.ParseRef(ref.String()); err != nil || again != ref {
			t.Fatalf("%q is not canonical: parsed again it is %q, %v", ref, again, err)
		}
		if ref.String() != strings.TrimPrefix(path, "/") {
			t.Fatalf("ParseRef(%q) repaired it to %q", path, ref)
		}
		if strings.Join(ref.Segments(), "/") != ref.String() {
			t.Fatalf("the segments of %q are %q", ref, ref.Segments())
		}
		for _, segment := range ref.Segments() {
			if segment == "" || segment == "." || segment == ".." || strings.TrimSpace(segment) != segment ||
				strings.ContainsAny(segment, "/%\\*?#") {
				t.Fatalf("%q has the segment %q", ref, segment)
			}
			for _, r := range segment {
				if r < 0x20 || r > 0x7e {
					t.Fatalf("%q has the character %q", ref, r)
				}
			}
		}
	})
}
