package repository

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// Tree is a branch as it was fetched.
type Tree struct {
	store storer.EncodedObjectStorer
	// head is the zero hash for a branch that is not there yet.
	head plumbing.Hash
	// root is the head's tree; nil likewise.
	root *object.Tree
}

// Head names the commit that the tree is of; "" for none.
func (t *Tree) Head() string { return text(t.head) }

func text(hash plumbing.Hash) string {
	if hash.IsZero() {
		return ""
	}
	return hash.String()
}

// File gives a file's content. Errors wrap ErrNoFile or ErrOccupied.
func (t *Tree) File(name string) ([]byte, error) {
	at := t.root
	segments := strings.Split(name, "/")
	for i, segment := range segments {
		if at == nil {
			return nil, fmt.Errorf("%w: %s", ErrNoFile, name)
		}
		entry := slices.IndexFunc(at.Entries, func(e object.TreeEntry) bool { return e.Name == segment })
		if entry < 0 {
			return nil, fmt.Errorf("%w: %s", ErrNoFile, name)
		}
		found, last := at.Entries[entry], i == len(segments)-1
		if last && isFile(found.Mode) {
			return t.blob(found.Hash)
		}
		if last || found.Mode != filemode.Dir {
			return nil, fmt.Errorf("%w: %s", ErrOccupied, path.Join(segments[:i+1]...))
		}
		below, err := object.GetTree(t.store, found.Hash)
		if err != nil {
			return nil, fmt.Errorf("reading folder %s: %w", path.Join(segments[:i+1]...), err)
		}
		at = below
	}
	return nil, fmt.Errorf("%w: %s", ErrNoFile, name) // unreachable: Split gives one segment at least
}

// Files calls visit for every file that is no larger than largest, with its
// content.
func (t *Tree) Files(largest int64, wanted func(name string) bool, visit func(name string, content []byte)) error {
	if t.root == nil {
		return nil
	}
	walker := object.NewTreeWalker(t.root, true, nil)
	defer walker.Close()
	for {
		name, entry, err := walker.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("walking the repository: %w", err)
		}
		if !isFile(entry.Mode) || !wanted(name) {
			continue
		}
		if size, err := t.store.EncodedObjectSize(entry.Hash); err != nil || size > largest {
			continue
		}
		content, err := t.blob(entry.Hash)
		if err != nil {
			return err
		}
		visit(name, content)
	}
}

func isFile(mode filemode.FileMode) bool {
	return mode == filemode.Regular || mode == filemode.Executable || mode == filemode.Deprecated
}

func (t *Tree) blob(hash plumbing.Hash) ([]byte, error) {
	blob, err := object.GetBlob(t.store, hash)
	if err != nil {
		return nil, fmt.Errorf("reading a file of the repository: %w", err)
	}
	reader, err := blob.Reader()
	if err != nil {
		return nil, fmt.Errorf("reading a file of the repository: %w", err)
	}
	defer func() { _ = reader.Close() }()
	return io.ReadAll(reader)
}

// graft writes a tree like the one given, nil for an empty one, with the
// changes in it: files by path, nil to remove. It gives the zero hash for a
// tree that became empty, which git does not keep. Errors wrap ErrOccupied.
func graft(store storer.EncodedObjectStorer, onto *object.Tree, changes map[string][]byte) (plumbing.Hash, error) {
	entries := entriesOf(onto)
	below := map[string]map[string][]byte{}
	for name, content := range changes {
		first, rest, deeper := strings.Cut(name, "/")
		if deeper {
			if below[first] == nil {
				below[first] = map[string][]byte{}
			}
			below[first][rest] = content
			continue
		}
		if err := put(store, entries, first, content); err != nil {
			return plumbing.ZeroHash, err
		}
	}
	for folder, changes := range below {
		if err := graftFolder(store, entries, folder, changes); err != nil {
			return plumbing.ZeroHash, err
		}
	}
	return write(store, entries)
}

func entriesOf(tree *object.Tree) map[string]object.TreeEntry {
	entries := map[string]object.TreeEntry{}
	if tree != nil {
		for _, entry := range tree.Entries {
			entries[entry.Name] = entry
		}
	}
	return entries
}

// put puts one file into a folder, or takes it out.
func put(store storer.EncodedObjectStorer, entries map[string]object.TreeEntry, name string, content []byte) error {
	if was, found := entries[name]; found && !isFile(was.Mode) {
		return fmt.Errorf("%w: %s", ErrOccupied, name)
	}
	if content == nil {
		delete(entries, name)
		return nil
	}
	blob := store.NewEncodedObject()
	blob.SetType(plumbing.BlobObject)
	hash, err := encode(store, blob, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	entries[name] = object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: hash}
	return err
}

func graftFolder(store storer.EncodedObjectStorer, entries map[string]object.TreeEntry, folder string, changes map[string][]byte) error {
	var onto *object.Tree
	if was, found := entries[folder]; found {
		if was.Mode != filemode.Dir {
			return fmt.Errorf("%w: %s", ErrOccupied, folder)
		}
		var err error
		if onto, err = object.GetTree(store, was.Hash); err != nil {
			return fmt.Errorf("reading folder %s: %w", folder, err)
		}
	}
	hash, err := graft(store, onto, changes)
	if err != nil {
		return fmt.Errorf("%s: %w", folder, err)
	}
	delete(entries, folder)
	if !hash.IsZero() {
		entries[folder] = object.TreeEntry{Name: folder, Mode: filemode.Dir, Hash: hash}
	}
	return nil
}

func write(store storer.EncodedObjectStorer, entries map[string]object.TreeEntry) (plumbing.Hash, error) {
	if len(entries) == 0 {
		return plumbing.ZeroHash, nil
	}
	tree := &object.Tree{}
	for _, entry := range entries {
		tree.Entries = append(tree.Entries, entry)
	}
	slices.SortFunc(tree.Entries, func(a, b object.TreeEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	encoded := store.NewEncodedObject()
	if err := tree.Encode(encoded); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("writing a folder: %w", err)
	}
	return store.SetEncodedObject(encoded)
}

// sortName is what git sorts a tree's entries by: a folder as if its name ended
// with a slash.
func sortName(entry object.TreeEntry) string {
	if entry.Mode == filemode.Dir {
		return entry.Name + "/"
	}
	return entry.Name
}

func encode(store storer.EncodedObjectStorer, object plumbing.EncodedObject, fill func(io.Writer) error) (plumbing.Hash, error) {
	writer, err := object.Writer()
	if err == nil {
		err = errors.Join(fill(writer), writer.Close())
	}
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("writing a file: %w", err)
	}
	return store.SetEncodedObject(object)
}
