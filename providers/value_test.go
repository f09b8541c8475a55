package providers_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/providers"
)

const marker = "MARKER-correct-horse"

// spellings are the forms in which formatting could let the marker out: as
// text, as hexadecimal of either case, and as decimal bytes, which is how fmt
// prints a []byte that it reaches by reflection.
func spellings() []string {
	decimal := make([]string, 0, len(marker))
	for _, b := range []byte(marker) {
		decimal = append(decimal, strconv.Itoa(int(b)))
	}
	return []string{
		marker,
		fmt.Sprintf("%x", marker), fmt.Sprintf("%X", marker),
		fmt.Sprintf("% x", marker), fmt.Sprintf("%#v", []byte(marker)),
		strings.Join(decimal, " "), strings.Join(decimal, ", "),
		"TUFSS0VSLWNvcnJlY3QtaG9yc2U", // base64
	}
}

func mustNotTell(t *testing.T, where, printed string) {
	t.Helper()
	for _, spelling := range spellings() {
		if strings.Contains(printed, spelling) {
			t.Errorf("%s tells the value: %s", where, printed)
			return
		}
	}
}

type open struct{ Value providers.Value }
type closed struct{ value providers.Value }
type closedPointer struct{ value *providers.Value }
type embedded struct{ providers.Value }
type nest struct {
	documents []providers.Document
	closed    closed
	any       any
}

func holders() map[string]any {
	value := providers.NewValue([]byte(marker))
	document := providers.Document{Values: map[string]providers.Value{"password": value}, Version: 3}
	return map[string]any{
		"a value":                      value,
		"a pointer to a value":         &value,
		"a slice":                      []providers.Value{value},
		"a slice of pointers":          []*providers.Value{&value},
		"an array":                     [1]providers.Value{value},
		"a map":                        map[string]providers.Value{"password": value},
		"an interface in a map":        map[string]any{"password": value},
		"an exported field":            open{value},
		"a pointer to a struct":        &open{value},
		"an unexported field":          closed{value},
		"an unexported pointer":        closedPointer{&value},
		"a pointer to an unexported":   &closed{value},
		"an embedded value":            embedded{value},
		"a document":                   document,
		"a pointer to a document":      &document,
		"everything in everything":     nest{[]providers.Document{document}, closed{value}, value},
		"a pointer to all that":        &nest{[]providers.Document{document}, closed{value}, &value},
		"an error made of it":          fmt.Errorf("reading: %v", value),
		"an error that wraps that one": fmt.Errorf("syncing: %w", fmt.Errorf("reading: %+v", document)),
		"joined errors":                errors.Join(fmt.Errorf("%s", value), fmt.Errorf("%+v", closed{value})),
	}
}

func TestNoVerbTellsTheValue(t *testing.T) {
	for where, holder := range holders() {
		for _, flags := range []string{"", "+", "#", " ", "0", "-", "+#", "# ", "8", ".4", "-12.3"} {
			for _, verb := range "vTtbcdoOqxXUeEfFgGspwz" {
				format := "%" + flags + string(verb)
				mustNotTell(t, where+" in "+format, fmt.Sprintf(format, holder))
			}
		}
		mustNotTell(t, where+" in Sprint", fmt.Sprint(holder))
		mustNotTell(t, where+" in Sprintln", fmt.Sprintln(holder))
		for _, format := range []string{"done", "%d of %d", "%[9]v", "%!", "%*v"} { // mistakes
			mustNotTell(t, where+" in "+format, fmt.Sprintf(format, holder))
		}
	}
}

func TestAValuePrintsAsRedacted(t *testing.T) {
	value := providers.NewValue([]byte(marker))
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		if got := fmt.Sprintf(format, value); got != providers.Redacted {
			t.Errorf("%s is %q, want %q", format, got, providers.Redacted)
		}
	}
	if value.String() != providers.Redacted || value.GoString() != providers.Redacted {
		t.Error("String or GoString is not redacted")
	}
}

func TestNoEncoderTellsTheValue(t *testing.T) {
	for where, holder := range holders() {
		if encoded, err := json.Marshal(holder); err == nil {
			mustNotTell(t, where+" as JSON", string(encoded))
		}
		if encoded, err := json.MarshalIndent(holder, "", " "); err == nil {
			mustNotTell(t, where+" as indented JSON", string(encoded))
		}
		if encoded, err := xml.Marshal(holder); err == nil {
			mustNotTell(t, where+" as XML", string(encoded))
		}
	}
	encoded, err := json.Marshal(map[string]any{"password": providers.NewValue([]byte(marker))})
	if err != nil || string(encoded) != `{"password":"[redacted]"}` {
		t.Errorf("JSON is %s, %v", encoded, err)
	}
}

func TestNoLogTellsTheValue(t *testing.T) {
	for where, holder := range holders() {
		var text, structured bytes.Buffer
		for _, logger := range []*slog.Logger{
			slog.New(slog.NewTextHandler(&text, nil)),
			slog.New(slog.NewJSONHandler(&structured, nil)),
		} {
			logger.Info("read", "holder", holder)
			logger.Info("read", slog.Group("store", slog.Any("holder", holder)))
			logger.With("holder", holder).Info(fmt.Sprint(holder))
		}
		mustNotTell(t, where+" in a text log", text.String())
		mustNotTell(t, where+" in a JSON log", structured.String())
	}
}

func TestClearOverwritesTheValueAndNotItsClone(t *testing.T) {
	raw := []byte(marker)
	document := providers.Document{
		Values:  map[string]providers.Value{"password": providers.NewValue(raw)},
		Version: 7,
	}
	clone := document.Clone()
	document.Clear()
	if !bytes.Equal(raw, make([]byte, len(marker))) {
		t.Error("Clear left bytes behind")
	}
	if clone.Version != 7 || !clone.Values["password"].Equal(providers.NewValue([]byte(marker))) {
		t.Error("clearing the original changed its clone")
	}
}

func TestTheZeroValueIsTheEmptyValue(t *testing.T) {
	var zero providers.Value
	zero.Clear()
	if len(zero.Bytes()) != 0 || !zero.Equal(providers.NewValue(nil)) || !zero.Clone().Equal(zero) {
		t.Error("the zero Value is not empty")
	}
	if zero.Equal(providers.NewValue([]byte("x"))) {
		t.Error("the zero Value equals another")
	}
	if got := fmt.Sprintf("%v", zero); got != providers.Redacted {
		t.Errorf("an empty value prints as %q, which tells that it is empty", got)
	}
}
