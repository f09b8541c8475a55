package address

import (
	"errors"
	"strings"
	"testing"
)

func TestAddressesAreWrittenInOneWay(t *testing.T) {
	for _, good := range []string{
		"https://vault.vault.svc:8200", "http://127.0.0.1:8200", "https://[2001:db8::1]:8200",
	} {
		if _, err := Parse([]string{good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "vault:8200", "https://vault", "https://vault:", "https://:8200", "https://vault:0", "https://vault:65536",
		"https://vault:8200/", "https://vault:8200/v1", "https://vault:8200?x", "https://vault:8200#x",
		"https://user:MARKER@vault:8200", "https://user:MARKER\x7f@vault:8200", "HTTPS://vault:8200", "ldap://vault:8200",
		"https://*.vault.svc:8200/**",
	} {
		_, err := Parse([]string{"https://vault:8200", bad})
		if !errors.Is(err, ErrAddress) || !strings.Contains(err.Error(), "scheme://host:port") {
			t.Errorf("%s: got %v", bad, err)
		}
		if err != nil && strings.Contains(err.Error(), "MARKER") {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
}

func TestOnlyListedAddressesAreAllowed(t *testing.T) {
	some, err := Parse([]string{"https://vault:8200", "https://spare:443"})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name    string
		allowed Allowed
		address string
		mention string // "" : it is allowed
	}{
		{"one that is listed", some, "https://spare:443", ""},
		{"one with the slash that the CRD lets pass", some, "https://vault:8200/", ""},
		{"another port", some, "https://vault:8201", "https://vault:8200, https://spare:443"},
		{"another scheme", some, "http://vault:8200", "vault.allowedAddresses lists"},
		{"a host that only begins alike", some, "https://vault:8200.evil.example", "vault.allowedAddresses lists"},
		{"no port, though it would be the same", some, "https://spare", "as it is there"},
		{"none is listed", Allowed{}, "https://vault:8200", "switched off"},
	} {
		err := row.allowed.Check(row.address)
		switch {
		case row.mention == "" && err != nil:
			t.Errorf("%s: %v", row.name, err)
		case row.mention != "" && (!errors.Is(err, ErrNotAllowed) || !strings.Contains(err.Error(), row.mention)):
			t.Errorf("%s: got %v, want it to mention %q", row.name, err, row.mention)
		}
	}
}

// FuzzParse: what is taken as an address is one, and allows itself alone.
func FuzzParse(f *testing.F) {
	f.Add("https://vault:8200", "https://vault:8200/")
	f.Add("https://[::1]:8200", "https://evil@vault:8200")
	f.Fuzz(func(t *testing.T, listed, asked string) {
		allowed, err := Parse([]string{listed})
		if err != nil {
			return
		}
		if err := allowed.Check(listed); err != nil {
			t.Errorf("%q is listed and refused: %v", listed, err)
		}
		if allowed.Check(asked) == nil && asked != listed && asked != listed+"/" {
			t.Errorf("%q allows %q", listed, asked)
		}
	})
}
