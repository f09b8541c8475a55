package rotate

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/privyseal/privyseal/providers"
	"github.com/privyseal/privyseal/rotation"
)

// redacted stands where a value was.
const redacted = "[redacted]"

const (
	// shortest value that can be told from what is beside it. A text is withheld in
	// which a shorter one could be.
	shortest = 4
	// maxTermination is how much of a termination message a kubelet keeps, the end of it.
	maxTermination = 4096
)

// redaction takes the values of a rotation out of a text, in the forms that programs
// print them in.
type redaction struct {
	forms []string // the longest first
	// short: there is a value that cannot be looked for.
	short bool
	// blind: there may be values that nobody knows any more.
	blind bool
}

// newRedaction of a change, and of more that a hook had.
func newRedaction(change rotation.Change, more ...[]byte) redaction {
	var r redaction
	for _, values := range []map[string]providers.Value{change.Before, change.After} {
		for _, value := range values {
			r.add(value.Bytes())
		}
	}
	for _, value := range more {
		r.add(value)
	}
	slices.SortFunc(r.forms, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	r.forms = slices.Compact(r.forms)
	return r
}

// add a value, and each line of it, since programs print those alone.
func (r *redaction) add(raw []byte) {
	trimmed := bytes.TrimSpace(raw)
	if len(trimmed) == 0 {
		return
	}
	if len(trimmed) < shortest {
		r.short = true
		return
	}
	r.addForms(raw)
	r.addForms(trimmed)
	lines := bytes.Split(trimmed, []byte("\n"))
	for _, line := range lines {
		if line = bytes.TrimSpace(line); len(lines) > 1 && len(line) >= 2*shortest {
			r.addForms(line)
		}
	}
}

func (r *redaction) addForms(raw []byte) {
	text := string(raw)
	r.forms = append(r.forms, text, url.QueryEscape(text), url.PathEscape(text), strings.ReplaceAll(text, "'", "''"),
		hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)), inJSON(text, true), inJSON(text, false), within(strconv.Quote(text)))
	// Alone it has one form in base64; as a part of something else it begins at one
	// of three places, and what it shares with its neighbours is left to them.
	for skip := range min(3, len(raw)-2) {
		part := raw[skip:]
		part = part[:len(part)-len(part)%3]
		r.forms = append(r.forms, base64.RawStdEncoding.EncodeToString(part), base64.RawURLEncoding.EncodeToString(part))
	}
	r.forms = append(r.forms, base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw))
	r.forms = slices.DeleteFunc(r.forms, func(form string) bool { return len(form) < shortest })
}

// inJSON is a text as it is between quotes in JSON.
func inJSON(text string, html bool) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(html)
	if err := encoder.Encode(text); err != nil {
		return text // unreachable: a string is JSON
	}
	return within(strings.TrimSpace(out.String()))
}

// within is what is between the quotes.
func within(quoted string) string { return quoted[1 : len(quoted)-1] }

// of a text, which then has no value in it.
func (r redaction) of(text string) string {
	if r.blind && text != "" {
		return "(nobody knows any more which values it had, so nothing is repeated here)"
	}
	if r.short && text != "" {
		return "(a value is too short to be told from other words, so nothing is repeated here)"
	}
	if len(text) >= maxTermination && len(r.forms) > 0 {
		text = text[min(len(text), len(r.forms[0])):] // what was cut may begin within a value
	}
	for _, form := range r.forms {
		text = strings.ReplaceAll(text, form, redacted)
	}
	return strings.ToValidUTF8(text, "")
}
