package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// ErrLabel: a label is not complete or not well formed.
var ErrLabel = errors.New("unusable label")

// Scope says how far the object that holds an item may be moved.
type Scope int

const (
	// Strict: nowhere. The namespace and the name are bound.
	Strict Scope = iota

	// NamespaceWide: under another name. The namespace is bound.
	NamespaceWide

	// ClusterWide: to another namespace too.
	ClusterWide
)

// String is how the scope is written, to kubeseal's --scope and in labels.
func (s Scope) String() string {
	switch s {
	case Strict:
		return "strict"
	case NamespaceWide:
		return "namespace-wide"
	case ClusterWide:
		return "cluster-wide"
	}
	return fmt.Sprintf("scope %d", int(s))
}

// ParseScope reads what String writes; "" is Strict, as kubeseal has it. Errors
// wrap ErrLabel.
func ParseScope(text string) (Scope, error) {
	for _, scope := range []Scope{Strict, NamespaceWide, ClusterWide} {
		if text == scope.String() {
			return scope, nil
		}
	}
	if text == "" {
		return Strict, nil
	}
	return Strict, fmt.Errorf("%w: scope %.32q; write strict, namespace-wide or cluster-wide", ErrLabel, text)
}

// ScopeOf is the scope of an object by the values of its annotations
// sealedsecrets.bitnami.com/cluster-wide and …/namespace-wide. Only "true"
// counts, and the wider wins, as upstream has it.
func ScopeOf(clusterWide, namespaceWide string) Scope {
	switch {
	case clusterWide == "true":
		return ClusterWide
	case namespaceWide == "true":
		return NamespaceWide
	}
	return Strict
}

// Label says what an item is. The item opens under the label that it was sealed
// with and under no other, as far as its scope and version go:
//
//	                   version 1         version 2
//	Strict             namespace, name   environment, namespace, name, item
//	NamespaceWide      namespace         environment, namespace, item
//	ClusterWide        nothing           item
//
// Version 2 binds the scope itself as well. What is not bound is ignored, so it
// may be filled in from the object at hand.
type Label struct {
	Scope Scope

	// Environment that the namespace is in; "" is none.
	Environment string

	// Namespace of the Secret.
	Namespace string

	// Name of the Secret.
	Name string

	// Item is the key of the Secret.
	Item string
}

// maxLabelField is the longest that Kubernetes lets any of the fields be.
const maxLabelField = 253

// protocol begins each label of version 2, so that nothing which was encrypted
// for another purpose can be taken for an item.
const protocol = "privyseal/v2"

// bound is the label without what lies outside its scope.
func (l Label) bound() Label {
	switch l.Scope {
	case NamespaceWide:
		l.Name = ""
	case ClusterWide:
		l.Environment, l.Namespace, l.Name = "", "", ""
	}
	return l
}

// bytesV1 is the label as Sealed Secrets writes it: "namespace/name",
// "namespace" or nothing.
func (l Label) bytesV1() ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	switch l.Scope {
	case NamespaceWide:
		return []byte(l.Namespace), nil
	case ClusterWide:
		return nil, nil
	}
	return []byte(l.Namespace + "/" + l.Name), nil
}

// bytesV2 is the protocol and the five bound fields, each after its length in
// two bytes.
func (l Label) bytesV2() ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	l = l.bound()
	if l.Item == "" {
		return nil, fmt.Errorf("%w: it names no key of the Secret", ErrLabel)
	}
	var label []byte
	for _, field := range []string{protocol, l.Scope.String(), l.Environment, l.Namespace, l.Name, l.Item} {
		if len(field) > maxLabelField {
			return nil, fmt.Errorf("%w: %.16q… is longer than %d bytes", ErrLabel, field, maxLabelField)
		}
		label = binary.BigEndian.AppendUint16(label, uint16(len(field)))
		label = append(label, field...)
	}
	return label, nil
}

// check refuses a label that lacks a bound field, or would be a second way to
// write another label.
func (l Label) check() error {
	if l.Scope < Strict || l.Scope > ClusterWide {
		return fmt.Errorf("%w: there is no %s", ErrLabel, l.Scope)
	}
	l = l.bound()
	switch {
	case l.Scope != ClusterWide && l.Namespace == "":
		return fmt.Errorf("%w: scope %s needs a namespace", ErrLabel, l.Scope)
	case l.Scope == Strict && l.Name == "":
		return fmt.Errorf("%w: scope %s needs the name of the Secret", ErrLabel, l.Scope)
	case strings.Contains(l.Namespace, "/"):
		// In version 1 a namespace "a/b" would be a Secret b in a.
		return fmt.Errorf("%w: namespace %.64q has a slash in it", ErrLabel, l.Namespace)
	}
	return nil
}
