package restart

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	operator "k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Snapshot is a client.Reader over objects that were listed once. It holds of
// them what the daemon's cache would, has the same indexes, and so answers what
// is asked about workloads without a daemon. What it gives is shared, and must
// not be changed.
type Snapshot struct {
	named   map[place]client.Object
	indexed map[entryOf][]client.Object
}

// place of an object, by its kind.
type place struct {
	kind string
	types.NamespacedName
}

// entryOf an index; by the empty name, all objects of a kind in a namespace, or
// in all where that is empty too.
type entryOf struct {
	kind, namespace, index, value string
}

// NewSnapshot of these objects. Secrets, Namespaces and ReplicaSets are wanted
// as metadata.
func NewSnapshot(objects []client.Object) (*Snapshot, error) {
	s := &Snapshot{named: map[place]client.Object{}, indexed: map[entryOf][]client.Object{}}
	keep := map[string]func(any) (any, error){}
	for of, how := range ByObject() {
		keep[reflect.TypeOf(of).String()] = how.Transform
	}
	for _, object := range objects {
		if transform, is := keep[reflect.TypeOf(object).String()]; is {
			kept, err := transform(object)
			if err != nil {
				return nil, fmt.Errorf("taking up %s: %w", client.ObjectKeyFromObject(object), err)
			}
			object, is = kept.(client.Object)
			if !is {
				return nil, fmt.Errorf("taking up a %T: it is no object", kept) // unreachable: transforms keep the type
			}
		}
		s.add(object)
	}
	return s, nil
}

func (s *Snapshot) add(object client.Object) {
	kind := kindName(object)
	s.named[place{kind, client.ObjectKeyFromObject(object)}] = object
	for _, namespace := range []string{"", object.GetNamespace()} {
		all := entryOf{kind: kind, namespace: namespace}
		s.indexed[all] = append(s.indexed[all], object)
		for _, index := range indexes() {
			if kindName(index.of) != kind {
				continue
			}
			for _, value := range index.by(object) {
				entry := entryOf{kind, namespace, index.name, value}
				s.indexed[entry] = append(s.indexed[entry], object)
			}
		}
		if object.GetNamespace() == "" {
			return
		}
	}
}

func indexed(kind, name string) bool {
	return slices.ContainsFunc(indexes(), func(i index) bool { return kindName(i.of) == kind && i.name == name })
}

// kindName of an object: for metadata what that says, else the Go type.
func kindName(object runtime.Object) string {
	switch object.(type) {
	case *metav1.PartialObjectMetadata, *metav1.PartialObjectMetadataList:
		return "metadata of " + strings.TrimSuffix(object.GetObjectKind().GroupVersionKind().Kind, "List")
	}
	return strings.TrimSuffix(reflect.TypeOf(object).String(), "List")
}

// Get is client.Reader's.
func (s *Snapshot) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	kind := kindName(into)
	found, there := s.named[place{kind, key}]
	if !there {
		return apierrors.NewNotFound(schema.GroupResource{Resource: kind}, key.String())
	}
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(found).Elem())
	return nil
}

// List is client.Reader's, for a namespace or all, and for one of the indexes.
func (s *Snapshot) List(_ context.Context, into client.ObjectList, options ...client.ListOption) error {
	asked := client.ListOptions{}
	asked.ApplyOptions(options)
	entry := entryOf{kind: kindName(into), namespace: asked.Namespace}
	if asked.LabelSelector != nil {
		return fmt.Errorf("listing %s by labels %s: a snapshot has no index of them", entry.kind, asked.LabelSelector)
	}
	if asked.FieldSelector != nil {
		requirements := asked.FieldSelector.Requirements()
		if len(requirements) != 1 || requirements[0].Operator != operator.Equals || !indexed(entry.kind, requirements[0].Field) {
			return fmt.Errorf("listing %s by %s: a snapshot has no such index", entry.kind, asked.FieldSelector)
		}
		entry.index, entry.value = requirements[0].Field, requirements[0].Value
	}
	items := make([]runtime.Object, 0, len(s.indexed[entry]))
	for _, object := range s.indexed[entry] {
		items = append(items, object)
	}
	if err := meta.SetList(into, items); err != nil {
		return fmt.Errorf("listing %s: %w", entry.kind, err)
	}
	return nil
}
