package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/privyseal/privyseal/broker/manifest"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// placed is an object, and the file that it is in.
type placed struct {
	*manifest.Object
	file string
}

// String is where the object is, for errors.
func (p placed) String() string { return fmt.Sprintf("%s: %s", p.file, p.Object) }

// into reads the object; a field that the kind does not have is an error, since
// the API server would drop it without a word.
func (p placed) into(kind any) error {
	unknown, err := p.Into(kind)
	if err != nil {
		return fmt.Errorf("%s: %w", p.file, err)
	}
	if len(unknown) > 0 {
		return fmt.Errorf("%s: %w", p, unknown[0])
	}
	return nil
}

// objectsIn are the objects of these kinds in files and folders; "-" is standard
// input. The error tells of every file that cannot be read.
func objectsIn(stdin io.Reader, paths []string, kinds ...string) ([]placed, error) {
	names, err := filesIn(paths, kinds...)
	if err != nil {
		return nil, err
	}
	var found []placed
	var problems []error
	for _, name := range names {
		file := name
		if name == "-" {
			file = "standard input"
		}
		text, err := readInput(stdin, name)
		var parsed *manifest.File
		if err == nil {
			parsed, err = manifest.Parse(text)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", file, err))
			continue
		}
		for _, object := range parsed.Objects {
			if slices.Contains(kinds, object.Kind) {
				found = append(found, placed{object, file})
			}
		}
	}
	return found, errors.Join(problems...)
}

// filesIn are the manifests at the paths, each once.
func filesIn(paths []string, kinds ...string) ([]string, error) {
	var names []string
	for _, path := range paths {
		more := []string{path}
		if path != "-" {
			var err error
			if more, err = manifestsIn([]string{path}, kinds...); err != nil {
				return nil, err
			}
		}
		for _, name := range more {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// isEnvironment says whether an object is one of ours by that kind.
func isEnvironment(object placed) bool {
	return object.Kind == "Environment" && object.APIVersion == v1alpha1.GroupVersion.String()
}

// environmentIn reads an Environment. Errors name the field.
func environmentIn(object placed) (*v1alpha1.Environment, error) {
	if err := checkWindows(object.Tree); err != nil {
		return nil, fmt.Errorf("%s: %w", object, err)
	}
	environment := &v1alpha1.Environment{}
	if err := object.into(environment); err != nil {
		return nil, err
	}
	if environment.Name == "" {
		return nil, fmt.Errorf("%s: metadata.name is missing", object)
	}
	return environment, nil
}

// maxWindows is what the kind takes.
const maxWindows = 16

// checkWindows finds what the kind's own reader would tell of without the
// window's number.
func checkWindows(tree map[string]any) error {
	spec, _ := tree["spec"].(map[string]any)
	windows, isList := spec["windows"].([]any)
	if !isList && spec["windows"] != nil {
		return errors.New("spec.windows: want a list")
	}
	if len(windows) > maxWindows {
		return fmt.Errorf("spec.windows: %d of them, and an Environment takes %d", len(windows), maxWindows)
	}
	for i, window := range windows {
		fields, isMapping := window.(map[string]any)
		if !isMapping {
			return fmt.Errorf("spec.windows[%d]: want a mapping with kind, schedule and duration", i)
		}
		for _, field := range []string{"kind", "schedule", "duration", "timeZone"} {
			if _, isText := fields[field].(string); !isText && fields[field] != nil {
				return fmt.Errorf("spec.windows[%d].%s: want a text; put it in quotes", i, field)
			}
		}
		text, there := fields["duration"].(string)
		if _, err := time.ParseDuration(text); there && err != nil {
			return fmt.Errorf(`spec.windows[%d].duration %.32q: want hours, minutes and seconds, such as "4h" or "1h30m"`, i, text)
		}
	}
	return nil
}
