package rotate_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/rotate"
	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

func changeOf(before, after string) rotation.Change {
	return rotation.Change{
		Keys:   []string{"password"},
		Before: map[string]providers.Value{"password": providers.NewValue([]byte(before))},
		After:  map[string]providers.Value{"password": providers.NewValue([]byte(after))},
	}
}

func TestAValueIsTakenOutInEachFormThatProgramsPrintItIn(t *testing.T) {
	const value = " p<ss'w&rd/\"%+x\n"
	trimmed := strings.TrimSpace(value)
	quoted, err := json.Marshal(trimmed)
	if err != nil {
		t.Fatal(err)
	}
	encoded := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	for name, form := range map[string]string{
		"itself": value, "trimmed": trimmed, "in JSON": string(quoted), "quoted": fmt.Sprintf("%q", trimmed),
		"base64": encoded(value), "base64 of the trimmed": encoded(trimmed), "base64 in a URL": base64.RawURLEncoding.EncodeToString([]byte(trimmed)),
		"hex": hex.EncodeToString([]byte(trimmed)), "large hex": strings.ToUpper(hex.EncodeToString([]byte(trimmed))),
		"in a query": url.QueryEscape(trimmed), "in a path": url.PathEscape(trimmed), "in SQL": strings.ReplaceAll(trimmed, "'", "''"),
	} {
		t.Run(name, func(t *testing.T) {
			if got := rotate.Redacted(changeOf("another one", value), "it was "+form+", and no more"); !strings.HasPrefix(got, "it was ") || !strings.HasSuffix(got, ", and no more") ||
				strings.Contains(got, strings.Trim(form, " \n\"")) || !strings.Contains(got, "[redacted]") {
				t.Errorf("it says %q", got)
			}
		})
	}
	t.Run("base64 with a name before it", func(t *testing.T) {
		for _, name := range []string{"a:", "ab:", "app:"} {
			got := rotate.Redacted(changeOf("x-old-x", "Secret-0123456789"), encoded(name+"Secret-0123456789"))
			if len(strings.ReplaceAll(got, "[redacted]", "")) > 10 {
				t.Errorf("it says %q", got)
			}
		}
	})
}

func TestBothValuesAndSingleLinesOfThemAreTakenOut(t *testing.T) {
	got := rotate.Redacted(changeOf("-----BEGIN KEY-----\nMIIEvQIBADAN\nBgkqhkiG9w0B\n-----END KEY-----\n", "new-value"), "line BgkqhkiG9w0B is not new-value")
	if got != "line [redacted] is not [redacted]" {
		t.Errorf("it says %q", got)
	}
}

func TestAValueThatCannotBeToldFromOtherWordsHasTheTextWithheld(t *testing.T) {
	if got := rotate.Redacted(changeOf("abc", "a-long-one"), "abc is the password"); strings.Contains(got, "abc") || got == "" {
		t.Errorf("it says %q", got)
	}
	if got := rotate.Redacted(changeOf("", "a-long-one"), "no old one"); got != "no old one" {
		t.Errorf("it says %q", got)
	}
}

// A kubelet keeps the end of a long message, which may begin within a value.
func TestAMessageThatWasCutBeginsBehindAnyRestOfAValue(t *testing.T) {
	value := strings.Repeat("0123456789", 3)
	message := value[20:] + strings.Repeat(".", 4096)
	if got := rotate.Redacted(changeOf("first", value), message); strings.Contains(got, "0") || got == "" {
		t.Errorf("it begins with %.50q", got)
	}
}

func FuzzWhateverIsSaidHoldsNoValue(f *testing.F) {
	f.Add("first", "second-value", "second-value is not first")
	f.Fuzz(func(t *testing.T, before, after, text string) {
		got := rotate.Redacted(changeOf(before, after), text+after+before)
		for _, value := range []string{before, after} {
			trimmed := strings.TrimSpace(value)
			if len(trimmed) >= 4 && !strings.Contains("[redacted]", trimmed) && !strings.Contains(got, "too short") && strings.Contains(strings.ReplaceAll(got, "[redacted]", "\x00"), trimmed) && strings.ToValidUTF8(trimmed, "") == trimmed {
				t.Errorf("%q is in %q", trimmed, got)
			}
		}
	})
}
