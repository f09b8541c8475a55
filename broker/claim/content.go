package claim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/privyseal/privyseal/broker/template"
	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// content is what a target holds, by key.
type content = map[string]providers.Value

// render joins the documents of the sources into the target's content. It is
// pure; its errors are *Refusal and name the field, never a value.
func render(spec v1alpha1.SecretClaimSpec, documents []providers.Document) (content, error) {
	joined := content{}
	for i, source := range spec.Sources {
		chosen, err := choose(source, documents[i])
		if err != nil {
			return nil, because(v1alpha1.ReasonKeyNotFound, fmt.Sprintf("spec.sources[%d]%s", i, err.field), err.cause)
		}
		for _, key := range slices.Sorted(maps.Keys(chosen)) {
			if _, taken := joined[key]; taken && !source.Override {
				return nil, refuse(v1alpha1.ReasonKeyConflict,
					"spec.sources[%d]: key %s comes from an earlier source too; rename it with keys[].to or prefix, or set override", i, key)
			}
			joined[key] = chosen[key]
		}
	}
	if spec.Template == nil || len(spec.Template.Data) == 0 {
		return joined, nil
	}
	rendered := content{}
	for _, key := range slices.Sorted(maps.Keys(spec.Template.Data)) {
		value, err := template.Render(key, string(spec.Template.Data[key]), joined)
		if err != nil {
			err = fmt.Errorf("%w; correct it; the sources have %s", err, keyNames(providers.Document{Values: joined}))
			return nil, because(v1alpha1.ReasonTemplateInvalid, "spec.template.data["+key+"]", err)
		}
		rendered[key] = value
	}
	return rendered, nil
}

// keyError names the field of a source whose key is not there.
type keyError struct {
	field string
	cause error
}

var errNoKey = errors.New("the source has no such key")

// choose takes from a document what a source asks for, under its target names.
func choose(source v1alpha1.Source, document providers.Document) (content, *keyError) {
	chosen := content{}
	if len(source.Keys) == 0 {
		for key, value := range document.Values {
			chosen[source.Prefix+key] = value
		}
		return chosen, nil
	}
	for i, key := range source.Keys {
		value, name, err := pick(key, document)
		if err != nil {
			return nil, &keyError{field: fmt.Sprintf(".keys[%d]", i), cause: err}
		}
		chosen[source.Prefix+name] = value
	}
	return chosen, nil
}

func pick(key v1alpha1.Key, document providers.Document) (providers.Value, string, error) {
	if key.Pointer != "" {
		value, err := follow(key.Pointer, document)
		return value, key.To, err
	}
	name := key.To
	if name == "" {
		name = key.From
	}
	value, found := document.Values[key.From]
	if !found {
		return providers.Value{}, "", fmt.Errorf("%w: from %q; it has %s", errNoKey, key.From, keyNames(document))
	}
	return value, name, nil
}

func keyNames(document providers.Document) string {
	names := slices.Sorted(maps.Keys(document.Values))
	if len(names) > 20 {
		names = append(names[:20], "…")
	}
	return strings.Join(names, ", ")
}

// follow reaches a nested value by a JSON pointer (RFC 6901): its first part is
// a key of the document, the rest leads into that key's JSON.
func follow(pointer string, document providers.Document) (providers.Value, error) {
	parts := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	value, found := document.Values[unescape.Replace(parts[0])]
	if !found {
		return providers.Value{}, fmt.Errorf("%w: pointer %q; it has %s", errNoKey, pointer, keyNames(document))
	}
	raw := json.RawMessage(value.Bytes())
	for i, part := range parts[1:] {
		next, ok := step(raw, unescape.Replace(part))
		if !ok {
			return providers.Value{}, fmt.Errorf("%w: pointer %q leads nowhere after /%s", errNoKey, pointer, strings.Join(parts[:i+1], "/"))
		}
		raw = next
	}
	if len(parts) == 1 {
		return providers.NewValue(slices.Clone(value.Bytes())), nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return providers.NewValue([]byte(text)), nil
	}
	return providers.NewValue(bytes.TrimSpace(slices.Clone(raw))), nil
}

// step goes one part of a pointer down, into an object or a list.
func step(raw json.RawMessage, part string) (json.RawMessage, bool) {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) == nil {
		next, ok := object[part]
		return next, ok
	}
	var list []json.RawMessage
	index, err := strconv.Atoi(part)
	if json.Unmarshal(raw, &list) != nil || err != nil || index < 0 || index >= len(list) {
		return nil, false
	}
	return list[index], true
}
