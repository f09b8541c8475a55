package manifest

import (
	"fmt"
	"math"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// yamlPlace is where a YAML parser says that it stumbled.
var yamlPlace = regexp.MustCompile(`line \d+`)

var (
	errTooDeep  = fmt.Errorf("more than %d lists and mappings within each other", maxDepth)
	errTooLarge = fmt.Errorf("more than %d entries; aliases count with all that they stand for", maxNodes)
)

// treeReader makes trees of nodes. The parser's own way would take what looks
// like a date for a time, and the last of two equal keys for the only one.
type treeReader struct{ left int }

func (r *treeReader) value(node *yaml.Node, depth int) (any, error) {
	if r.left--; r.left < 0 {
		return nil, errTooLarge
	}
	if depth > maxDepth {
		return nil, errTooDeep
	}
	switch node.Kind {
	case yaml.AliasNode:
		return r.value(node.Alias, depth+1)
	case yaml.ScalarNode:
		return scalar(node)
	case yaml.SequenceNode:
		list := make([]any, 0, len(node.Content))
		for _, child := range node.Content {
			one, err := r.value(child, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, one)
		}
		return list, nil
	case yaml.MappingNode:
		return r.mapping(node, depth)
	}
	return nil, fmt.Errorf("line %d: neither a value, a list nor a mapping", node.Line)
}

func (r *treeReader) mapping(node *yaml.Node, depth int) (map[string]any, error) {
	tree := make(map[string]any, len(node.Content)/2)
	var merged []*yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, child := resolved(node.Content[i]), node.Content[i+1]
		if key == nil || key.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: a key that is not a text", node.Content[i].Line)
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, child)
			continue
		}
		if _, twice := tree[key.Value]; twice {
			return nil, fmt.Errorf("line %d: key %.64q is there twice", key.Line, key.Value)
		}
		one, err := r.value(child, depth+1)
		if err != nil {
			return nil, err
		}
		tree[key.Value] = one
	}
	for _, child := range merged {
		if err := r.merge(tree, child, depth); err != nil {
			return nil, err
		}
	}
	return tree, nil
}

// merge is what YAML's << does: the keys of another mapping, or of several,
// unless they are there already.
func (r *treeReader) merge(tree map[string]any, node *yaml.Node, depth int) error {
	value, err := r.value(node, depth+1)
	if err != nil {
		return err
	}
	sources, isList := value.([]any)
	if !isList {
		sources = []any{value}
	}
	for _, source := range sources {
		mapping, isMapping := source.(map[string]any)
		if !isMapping {
			return fmt.Errorf("line %d: << takes mappings", node.Line)
		}
		for key, one := range mapping {
			if _, there := tree[key]; !there {
				tree[key] = one
			}
		}
	}
	return nil
}

func scalar(node *yaml.Node) (any, error) {
	switch node.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var value bool
		if node.Decode(&value) == nil {
			return value, nil
		}
	case "!!int":
		var value int64
		if node.Decode(&value) == nil {
			return value, nil
		}
		var large float64
		if node.Decode(&large) == nil {
			return large, nil
		}
	case "!!float":
		var value float64
		if node.Decode(&value) == nil && !math.IsInf(value, 0) && !math.IsNaN(value) {
			return value, nil
		}
	default:
		return node.Value, nil
	}
	return nil, fmt.Errorf("line %d: not what its tag %s says", node.Line, node.ShortTag())
}

// resolved is what an alias stands for.
func resolved(node *yaml.Node) *yaml.Node {
	for node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// lookup finds the node under these keys; nil if there is none.
func lookup(node *yaml.Node, path ...string) *yaml.Node {
	for _, name := range path {
		node = resolved(node)
		if node == nil || node.Kind != yaml.MappingNode {
			return nil
		}
		var found *yaml.Node
		for i := 0; i+1 < len(node.Content); i += 2 {
			if key := resolved(node.Content[i]); key != nil && key.Value == name {
				found = node.Content[i+1]
			}
		}
		node = found
	}
	return node
}
