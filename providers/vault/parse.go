package vault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/privyseal/privyseal/providers"
)

// errShape: an answer does not have the shape of the engine that was asked.
var errShape = fmt.Errorf("%w: its answer is not that of its engine", providers.ErrUnavailable)

// parseMount is the answer of sys/internal/ui/mounts/<path>.
func parseMount(body []byte) (mount, error) {
	var got struct {
		Data *struct {
			Path    string            `json:"path"`
			Type    string            `json:"type"`
			Options map[string]string `json:"options"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &got); err != nil || got.Data == nil || got.Data.Path == "" {
		return mount{}, fault(providers.ErrUnavailable, http.StatusOK, notVault)
	}
	found := mount{path: strings.TrimSuffix(got.Data.Path, "/") + "/"}
	switch got.Data.Type {
	case "kv", "generic": // generic is kv's name before 0.8
		found.engine, found.version = keyValue, 1
		if got.Data.Options["version"] == "2" {
			found.version = 2
		}
	case "database":
		found.engine = database
	default:
		return mount{}, fault(providers.ErrInvalid, 0, "its mount is neither a key-value engine nor a database engine, and nothing else is read")
	}
	return found, nil
}

// parseV1 is the answer of the key-value engine, version 1.
// See https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v1.
func parseV1(got answer) (providers.Document, error) {
	if got.code != http.StatusOK {
		return providers.Document{}, refused(got.code)
	}
	var envelope struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	defer func() { wipe(envelope.Data) }()
	if err := json.Unmarshal(got.body, &envelope); err != nil || envelope.Data == nil {
		return providers.Document{}, errShape
	}
	return newDocument(envelope.Data, 0)
}

// parseV2 is the answer of the key-value engine, version 2.
// See https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2.
func parseV2(got answer) (providers.Document, error) {
	raw, version, err := rawV2(got)
	defer wipe(raw)
	if err != nil {
		return providers.Document{}, err
	}
	return newDocument(raw, version)
}

// rawV2 is a document as it lies in the store, which the caller wipes, and its
// version, which one that was deleted has too.
func rawV2(got answer) (raw map[string]json.RawMessage, version int64, err error) {
	if got.code != http.StatusOK && got.code != http.StatusNotFound {
		return nil, 0, refused(got.code)
	}
	var envelope struct {
		Data struct {
			Data     map[string]json.RawMessage `json:"data"`
			Metadata *struct {
				Version      int64  `json:"version"`
				DeletionTime string `json:"deletion_time"`
				Destroyed    bool   `json:"destroyed"`
			} `json:"metadata"`
		} `json:"data"`
	}
	err = json.Unmarshal(got.body, &envelope)
	raw = envelope.Data.Data
	metadata := envelope.Data.Metadata
	if metadata != nil {
		version = metadata.Version
	}
	switch {
	case err == nil && metadata != nil && metadata.Destroyed:
		return raw, version, fault(providers.ErrDeleted, got.code, "this version was destroyed: write a new one")
	case err == nil && metadata != nil && raw == nil && metadata.DeletionTime != "":
		return nil, version, fault(providers.ErrDeleted, got.code, "this version was deleted: undelete it, or write a new one")
	case got.code == http.StatusNotFound:
		return raw, 0, refused(got.code)
	case err != nil || version < 1 || raw == nil:
		return raw, 0, errShape
	}
	return raw, version, nil
}

// newDocument copies the values out of an answer.
func newDocument(raw map[string]json.RawMessage, version int64) (providers.Document, error) {
	document := providers.Document{Values: make(map[string]providers.Value, len(raw)), Version: version}
	for key, encoded := range raw {
		value, err := newValue(encoded)
		if err != nil {
			document.Clear()
			return providers.Document{}, errShape
		}
		document.Values[key] = value
		if !isText(encoded) {
			if document.JSON == nil {
				document.JSON = map[string]bool{}
			}
			document.JSON[key] = true
		}
	}
	return document, nil
}

// newValue is a string's bytes, or anything else's JSON: compact, its keys in
// order, and its numbers digit for digit, so that the same value has the same
// bytes each time that it is read.
func newValue(encoded json.RawMessage) (providers.Value, error) {
	if isText(encoded) {
		var s text
		err := json.Unmarshal(encoded, &s)
		return providers.NewValue(s), err
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return providers.Value{}, err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return providers.Value{}, err
	}
	return providers.NewValue(bytes.TrimSuffix(out.Bytes(), []byte("\n"))), nil
}

func isText(encoded json.RawMessage) bool { return bytes.HasPrefix(encoded, []byte(`"`)) }

// text is a JSON string that is decoded into bytes, which can be cleared,
// without a string on the way, which cannot.
type text []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *text) UnmarshalText(b []byte) error {
	*t = bytes.Clone(b)
	return nil
}

func wipe(raw map[string]json.RawMessage) {
	for _, encoded := range raw {
		clear(encoded)
	}
}
