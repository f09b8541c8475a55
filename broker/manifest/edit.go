package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Edit is a new ciphertext for an item that is there, or a new item.
type Edit struct {
	Object *Object
	// Item is the key of the Secret; "" is the deprecated spec.data.
	Item string
	// Text is base64.
	Text string
}

// errCannotEdit: the text is written in a way that this program does not edit.
var errCannotEdit = errors.New("its text cannot be replaced where it stands; write it in one line, without an alias")

// Replace is the file's text with these ciphertexts, and not one other byte
// changed: comments, order, quotes and line ends stay. The result is read again
// before it is given out.
func (f *File) Replace(edits []Edit) ([]byte, error) {
	lines := newLines(f)
	var spans []span
	for _, edit := range edits {
		one, err := f.span(lines, edit)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", edit.Object, ItemError{edit.Item, err})
		}
		spans = append(spans, one)
	}
	slices.SortStableFunc(spans, func(a, b span) int { return a.start - b.start })
	var edited bytes.Buffer
	at := 0
	for _, one := range spans {
		if one.start < at {
			return nil, fmt.Errorf("%w: two items share one text", ErrMalformed)
		}
		edited.Write(f.text[at:one.start])
		edited.Write(one.text)
		at = one.end
	}
	edited.Write(f.text[at:])
	return edited.Bytes(), f.proves(edited.Bytes(), edits)
}

// span is a part of a text, and what comes in its place.
type span struct {
	start, end int
	text       []byte
}

func (f *File) span(lines *lines, edit Edit) (span, error) {
	node := edit.Object.item(edit.Item)
	if node == nil {
		return f.insertion(lines, edit)
	}
	start, end, ok := scalarSpan(f.text, lines.offset(edit.Object.start, node), node)
	if !ok {
		return span{}, fmt.Errorf("line %d: %w", node.Line, errCannotEdit)
	}
	return span{start, end, []byte(edit.Text)}, nil
}

// errNoPlace: an item is added to those that are there, and written as they are.
var errNoPlace = errors.New("it is not there, and there is no item beside which it could be written")

// insertion is where a new item goes: behind the last one.
func (f *File) insertion(lines *lines, edit Edit) (span, error) {
	items := resolved(lookup(edit.Object.node, "spec", "encryptedData"))
	if edit.Item == "" || items == nil || items.Kind != yaml.MappingNode || len(items.Content) == 0 {
		return span{}, errNoPlace
	}
	key, value := items.Content[len(items.Content)-2], items.Content[len(items.Content)-1]
	at := lines.offset(edit.Object.start, key)
	_, end, ok := scalarSpan(f.text, lines.offset(edit.Object.start, value), value)
	if !ok {
		return span{}, errNoPlace
	}
	before := f.text[:at]
	space := before[len(bytes.TrimRight(before, " \t\r\n")):]
	if items.Style&yaml.FlowStyle != 0 {
		if value.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
			end++ // the quote
		}
		return span{end, end, fmt.Appendf(nil, ",%s%q: %q", space, edit.Item, edit.Text)}, nil
	}
	// A comment behind the last item stays with it.
	if line := bytes.IndexByte(f.text[end:], '\n'); line >= 0 {
		end += len(bytes.TrimRight(f.text[end:end+line], "\r"))
	} else {
		end = len(f.text)
	}
	lineBreak := "\n"
	if bytes.HasPrefix(f.text[end:], []byte("\r\n")) {
		lineBreak = "\r\n"
	}
	indent := space[bytes.LastIndexByte(space, '\n')+1:]
	return span{end, end, fmt.Appendf(nil, "%s%s%s: %s", lineBreak, indent, keyText(edit.Item), edit.Text)}, nil
}

// keyText is the key as YAML, in quotes unless nobody could take it for
// something else than a text.
func keyText(key string) string {
	if plainKey.MatchString(key) && !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(key)) {
		return key
	}
	return strconv.Quote(key)
}

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// proves that the edited text is what was meant: a mistake here would lose
// somebody's secret, or write it under another name.
func (f *File) proves(edited []byte, edits []Edit) error {
	again, err := Parse(edited)
	if err != nil || len(again.Objects) != len(f.Objects) {
		return fmt.Errorf("reading what was edited: %w", errors.Join(err, errCannotEdit))
	}
	for i, object := range f.Objects {
		want, got := object.Tree, again.Objects[i].Tree
		for _, edit := range edits {
			if edit.Object == object {
				want = withItem(want, edit.Item, edit.Text)
				// A block of text may end in a line break, which base64 passes over.
				got = withItem(got, edit.Item, trimmed(got, edit.Item))
			}
		}
		if !reflect.DeepEqual(want, got) {
			return fmt.Errorf("reading what was edited: %s: %w", object, errCannotEdit)
		}
	}
	return nil
}

// item is the node of an item's text; nil if there is none.
func (o *Object) item(name string) *yaml.Node {
	path := []string{"spec", "encryptedData", name}
	if name == "" {
		path = []string{"spec", "data"}
	}
	if node := lookup(o.node, path...); node != nil && node.Kind == yaml.ScalarNode {
		return node
	}
	return nil
}

// withItem is a copy of the tree with another text for the item.
func withItem(tree map[string]any, item, text string) map[string]any {
	spec := shallow(tree["spec"])
	if item == "" {
		spec["data"] = text
	} else {
		items := shallow(spec["encryptedData"])
		items[item] = text
		spec["encryptedData"] = items
	}
	tree = shallow(tree)
	tree["spec"] = spec
	return tree
}

func trimmed(tree map[string]any, item string) string {
	spec, _ := tree["spec"].(map[string]any)
	value := spec["data"]
	if item != "" {
		items, _ := spec["encryptedData"].(map[string]any)
		value = items[item]
	}
	text, _ := value.(string)
	return string(bytes.TrimRight([]byte(text), "\n"))
}

func shallow(value any) map[string]any {
	copied := map[string]any{}
	tree, _ := value.(map[string]any)
	for key, one := range tree {
		copied[key] = one
	}
	return copied
}

// lines find bytes by the places that the parser tells.
type lines struct {
	text   []byte
	starts map[int][]int // of each document of JSON, or of the whole file at 0
}

func newLines(f *File) *lines { return &lines{text: f.text, starts: map[int][]int{}} }

func (l *lines) offset(start int, node *yaml.Node) int {
	starts, there := l.starts[start]
	if !there {
		starts = lineStarts(l.text, start)
		l.starts[start] = starts
	}
	if node.Line > len(starts) {
		return len(l.text)
	}
	at := starts[node.Line-1]
	// Columns count characters, and a byte order mark is none.
	at += len(l.text[at:]) - len(bytes.TrimPrefix(l.text[at:], []byte("\ufeff")))
	for range node.Column - 1 {
		_, size := utf8.DecodeRune(l.text[min(at, len(l.text)):])
		at += size
	}
	return min(at, len(l.text))
}

// lineStarts are where lines begin, from start on. YAML ends them at more than
// line feeds.
func lineStarts(text []byte, start int) []int {
	starts := []int{start}
	for at := start; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		at += size
		if r == '\r' && at < len(text) && text[at] == '\n' {
			continue
		}
		switch r {
		case '\n', '\r', '\u0085', '\u2028', '\u2029':
			starts = append(starts, at)
		}
	}
	return starts
}

// scalarSpan is what to replace of the scalar that begins at `at`.
func scalarSpan(text []byte, at int, node *yaml.Node) (start, end int, ok bool) {
	at = afterProperties(text, at)
	rest := text[at:]
	switch {
	case node.Style&yaml.DoubleQuotedStyle != 0:
		return quotedSpan(text, at, '"', '\\')
	case node.Style&yaml.SingleQuotedStyle != 0:
		return quotedSpan(text, at, '\'', 0)
	case node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return blockSpan(text, at)
	case bytes.HasPrefix(rest, []byte(node.Value)) && node.Value != "":
		return at, at + len(node.Value), true
	}
	return 0, 0, false
}

// afterProperties passes over an anchor and a tag.
func afterProperties(text []byte, at int) int {
	for at < len(text) && (text[at] == '&' || text[at] == '!') {
		for at < len(text) && text[at] != ' ' && text[at] != '\n' {
			at++
		}
		for at < len(text) && text[at] == ' ' {
			at++
		}
	}
	return at
}

func quotedSpan(text []byte, at int, quote, escape byte) (start, end int, ok bool) {
	if at >= len(text) || text[at] != quote {
		return 0, 0, false
	}
	for end = at + 1; end < len(text); end++ {
		switch text[end] {
		case escape:
			if escape != 0 {
				end++
			}
		case quote:
			return at + 1, end, true
		}
	}
	return 0, 0, false
}

// blockSpan is the text of a block, | or >, without the indentation of its
// first line: that stays.
func blockSpan(text []byte, at int) (start, end int, ok bool) {
	line := bytes.IndexByte(text[at:], '\n')
	if line < 0 {
		return 0, 0, false
	}
	start = at + line + 1
	indent := len(text[start:]) - len(bytes.TrimLeft(text[start:], " "))
	start += indent
	end = start
	for next := start; next < len(text); {
		size := bytes.IndexByte(text[next:], '\n')
		if size < 0 {
			size = len(text) - next
		}
		end = next + len(bytes.TrimRight(text[next:next+size], "\r"))
		next = min(next+size+1, len(text))
		following := text[next:]
		if its := len(following) - len(bytes.TrimLeft(following, " ")); its < indent || indent == 0 || len(bytes.TrimSpace(following[:min(its+1, len(following))])) == 0 {
			break
		}
		next += indent
	}
	return start, end, end > start
}
