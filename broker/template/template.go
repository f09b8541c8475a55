// Package template renders a target's content from a claim's sources.
//
// Templates are hermetic: they see the sources' keys and nothing else (no
// environment, files, network, clock, randomness or cluster), so the same
// values always give the same bytes. A template that called for randomness
// would give a new Secret, and a rollout, at every refresh.
//
// They are also a place where a value could leave by the back door: a
// function's error may quote its argument, and text/template quotes that error.
// So no error of this package holds more than the template's own text.
package template

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/privyseal/privyseal/providers"
)

// maxOutput bounds one rendered value, in bytes: a Secret holds no more.
const maxOutput = 1 << 20

var (
	// ErrSyntax: the template does not parse.
	ErrSyntax = errors.New("template does not parse")

	// ErrRender: the template parses, but not with these keys.
	ErrRender = errors.New("template does not render")

	errTooLong = errors.New("output over 1 MiB")
)

// Render renders one template over the keys. Errors wrap ErrSyntax or
// ErrRender and hold no value.
func Render(name, text string, keys map[string]providers.Value) (providers.Value, error) {
	funcs := functions()
	parsed, err := template.New(name).Option("missingkey=error").Funcs(funcs).Parse(text)
	if err != nil {
		// Safe to show: a parse error quotes the template's text alone.
		return providers.Value{}, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	if parsed.Tree == nil {
		return providers.Value{}, nil // a text of definitions alone renders nothing
	}
	ticking, err := template.New(tick).Funcs(funcs).Parse("{{ " + tick + " }}")
	if err != nil {
		return providers.Value{}, fmt.Errorf("parsing the tick: %w", err)
	}
	if err := bound(parsed.Root, ticking.Root.Nodes[0]); err != nil {
		return providers.Value{}, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	// text/template works on strings; these copies cannot be cleared.
	data := make(map[string]string, len(keys))
	for key, value := range keys {
		data[key] = string(value.Bytes())
	}
	output := &limitedBuffer{}
	if err := parsed.Execute(output, data); err != nil {
		return providers.Value{}, fmt.Errorf("%w: %s", ErrRender, withoutValues(err))
	}
	return providers.NewValue(output.Bytes()), nil
}

// withoutValues keeps the part of an execution error that speaks of the
// template ("template: DSN:1:12: executing "DSN" at <.password>") and drops
// what follows, where functions may have quoted their arguments.
func withoutValues(err error) string {
	for _, known := range []error{errTooLong, errTooManySteps} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	place, _, found := strings.Cut(err.Error(), ">: ")
	if failed := new(template.ExecError); !found || !errors.As(err, failed) {
		return "check the functions it calls"
	}
	return place + ">: check that a source gives this key, and the functions called with it"
}

// tick is the function that every range body calls first.
const tick = "privysealTick"

// bound puts a tick at the head of every range body, so that no template can
// iterate for ever, and refuses {{template}}, so that none can recurse.
func bound(node parse.Node, tickNode parse.Node) error {
	switch node := node.(type) {
	case *parse.ListNode:
		if node == nil {
			return nil
		}
		for _, child := range node.Nodes {
			if err := bound(child, tickNode); err != nil {
				return err
			}
		}
	case *parse.IfNode:
		return errors.Join(bound(node.List, tickNode), bound(node.ElseList, tickNode))
	case *parse.WithNode:
		return errors.Join(bound(node.List, tickNode), bound(node.ElseList, tickNode))
	case *parse.RangeNode:
		err := errors.Join(bound(node.List, tickNode), bound(node.ElseList, tickNode))
		node.List.Nodes = slices.Insert(node.List.Nodes, 0, tickNode)
		return err
	case *parse.TemplateNode:
		return errors.New("{{template}} is not allowed")
	}
	return nil
}

type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxOutput {
		return 0, errTooLong
	}
	return b.Buffer.Write(p)
}
