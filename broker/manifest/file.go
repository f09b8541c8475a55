package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Limits of what is read.
const (
	// MaxFile bounds a file, in bytes.
	MaxFile = 32 << 20

	maxDepth = 64      // of lists and mappings in each other
	maxNodes = 1 << 17 // of one document, each alias counted with all it stands for
)

// ErrMalformed: a text is no manifest.
var ErrMalformed = errors.New("malformed manifest")

// File is a text with objects of Kubernetes in it: documents of YAML, JSON
// objects one after another, and the items of Lists.
type File struct {
	// Objects in their order. Documents with nothing in them are left out.
	Objects []*Object

	text []byte
}

// Object is one of a File.
type Object struct {
	// Document that it is in, from 1.
	Document int

	// What it says of itself; "" where it does not.
	APIVersion, Kind, Namespace, Name string

	// Tree is all of it, as encoding/json would read it.
	Tree map[string]any

	node  *yaml.Node
	start int // of the document's text in the file's
}

// String names the object, for errors.
func (o *Object) String() string {
	text := fmt.Sprintf("document %d", o.Document)
	if o.Kind != "" {
		text += ", " + o.Kind
	}
	if name := o.fullName(); name != "" {
		text += " " + name
	}
	return text
}

func (o *Object) fullName() string {
	if o.Namespace == "" {
		return o.Name
	}
	return o.Namespace + "/" + o.Name
}

// Parse reads a file. Errors wrap ErrMalformed and hold no value.
func Parse(text []byte) (*File, error) {
	switch {
	case len(text) > MaxFile:
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxFile)
	case !utf8.Valid(text):
		return nil, fmt.Errorf("%w: not UTF-8; save it in that encoding", ErrMalformed)
	}
	file := &File{text: text}
	var err error
	if trimmed := bytes.TrimLeft(text, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' && !looksLikeYAML(trimmed) {
		err = file.parseJSON()
	} else {
		err = file.parseYAML(text, 0)
	}
	if err != nil {
		return nil, err
	}
	return file, nil
}

// looksLikeYAML: a flow mapping, {kind: Secret}, begins as JSON does.
func looksLikeYAML(text []byte) bool {
	var first json.RawMessage
	return json.NewDecoder(bytes.NewReader(text)).Decode(&first) != nil
}

// parseJSON reads objects that stand one after another. Each is YAML too, once
// its tabs are spaces: none can be inside of a string.
func (f *File) parseJSON() error {
	decoder := json.NewDecoder(bytes.NewReader(f.text))
	for number := 1; ; number++ {
		var raw json.RawMessage
		start := int(decoder.InputOffset())
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return nil
		}
		end := int(decoder.InputOffset())
		if err == nil {
			err = f.parseYAML(bytes.ReplaceAll(f.text[start:end], []byte("\t"), []byte(" ")), start)
		}
		if err != nil {
			return fmt.Errorf("%w: document %d: %s", ErrMalformed, number, withoutText(err))
		}
	}
}

func (f *File) parseYAML(text []byte, start int) error {
	before := len(f.Objects)
	number := 1
	if before > 0 {
		number += f.Objects[before-1].Document
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for ; ; number++ {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: document %d: %s", ErrMalformed, number, withoutText(err))
		}
		if err := f.add(document.Content[0], number, start); err != nil {
			return fmt.Errorf("%w: document %d: %w", ErrMalformed, number, err)
		}
	}
}

// withoutText keeps of a parser's error what it says, unless that could quote
// the text, as a YAML parser does with an unknown anchor and JSON's with a letter.
func withoutText(err error) string {
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("no JSON at byte %d", syntax.Offset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends too early"
	case errors.Is(err, ErrMalformed):
		return err.Error()
	}
	if place := yamlPlace.FindString(err.Error()); place != "" {
		return "no YAML at " + place
	}
	return "no YAML; check its indentation, quotes and anchors"
}

// add takes in the object at the node, or those of the List that it is.
func (f *File) add(node *yaml.Node, number, start int) error {
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" {
		return nil
	}
	reader := treeReader{left: maxNodes}
	tree, err := reader.value(node, 0)
	if err != nil {
		return err
	}
	object, isObject := tree.(map[string]any)
	if !isObject {
		return errors.New("it is not an object")
	}
	return f.addTree(object, node, number, start)
}

func (f *File) addTree(tree map[string]any, node *yaml.Node, number, start int) error {
	kind, _ := tree["kind"].(string)
	if items, isList := tree["items"].([]any); isList && len(kind) >= 4 && kind[len(kind)-4:] == "List" {
		nodes := lookup(node, "items")
		for i, item := range items {
			one, isObject := item.(map[string]any)
			if !isObject {
				return fmt.Errorf("items[%d] is not an object", i)
			}
			if err := f.addTree(one, resolved(nodes).Content[i], number, start); err != nil {
				return err
			}
		}
		return nil
	}
	object := &Object{Document: number, Kind: kind, Tree: tree, node: node, start: start}
	object.APIVersion, _ = tree["apiVersion"].(string)
	metadata, _ := tree["metadata"].(map[string]any)
	object.Namespace, _ = metadata["namespace"].(string)
	object.Name, _ = metadata["name"].(string)
	f.Objects = append(f.Objects, object)
	return nil
}
