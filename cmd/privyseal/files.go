package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/broker/manifest"
)

// readInput reads a file, or standard input for "" and "-".
func readInput(stdin io.Reader, name string) ([]byte, error) {
	if name == "" || name == "-" {
		text, err := io.ReadAll(io.LimitReader(stdin, manifest.MaxFile+1))
		if err != nil {
			return nil, fmt.Errorf("reading standard input: %w", err)
		}
		return text, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the input: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, manifest.MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the input: %w", err)
	}
	return text, nil
}

// writeFile replaces a file in one step, so that nobody finds half of it. A
// file that is there keeps its mode, and stays where a link leads to.
func writeFile(name string, text []byte, mode os.FileMode) error {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	before, err := os.Stat(name)
	switch {
	case err == nil && !before.Mode().IsRegular():
		// A device or a pipe, as /dev/stdout, is written to.
		return os.WriteFile(name, text, mode)
	case err == nil:
		mode = before.Mode().Perm()
		if held, err := os.ReadFile(name); err == nil && bytes.Equal(held, text) {
			return nil
		}
	}
	temporary, err := os.CreateTemp(filepath.Dir(name), ".privyseal-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(text)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// isYAML says how to write: as the file's name says, else as --format does.
func isYAML(name, format string) (bool, error) {
	if format != "" && format != "json" && format != "yaml" {
		return false, usageError{fmt.Errorf("--format %q: want json or yaml", format)}
	}
	if ext := filepath.Ext(name); ext == ".yaml" || ext == ".yml" {
		return true, nil
	}
	return format == "yaml", nil
}

// manifestsIn are the files at the paths: those named, and in directories those
// that are called as manifests and speak of one of the kinds.
func manifestsIn(paths []string, kinds ...string) ([]string, error) {
	var found []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("looking for manifests: %w", err)
		}
		if !info.IsDir() {
			found = append(found, path)
			continue
		}
		err = filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && entry.Name() == ".git":
				return fs.SkipDir
			case !entry.Type().IsRegular() || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)):
				return nil
			}
			text, err := os.ReadFile(name)
			if err == nil && slices.ContainsFunc(kinds, func(kind string) bool { return strings.Contains(string(text), kind) }) {
				found = append(found, name)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("looking for manifests: %w", err)
		}
	}
	return found, nil
}
