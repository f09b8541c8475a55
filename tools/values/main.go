// Command values writes the table of a chart's values into its README, from
// values.yaml and the comments there, so that the two cannot differ.
//
// A value's doc is the comment above it. A map whose entries carry comments is
// walked into; any other value is one row, so that resources and the like are
// shown whole.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	begin = "<!-- values: generated from values.yaml by make generate -->\n"
	end   = "<!-- end of values -->\n"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("values: ")
	values := flag.String("values", "values.yaml", "the chart's values")
	readme := flag.String("readme", "README.md", "the file with the table")
	flag.Parse()
	if err := run(*values, *readme); err != nil {
		log.Fatal(err)
	}
}

func run(values, readme string) error {
	source, err := os.ReadFile(values)
	if err != nil {
		return fmt.Errorf("reading the values: %w", err)
	}
	page, err := os.ReadFile(readme)
	if err != nil {
		return fmt.Errorf("reading the page: %w", err)
	}
	table, err := tableOf(source)
	if err != nil {
		return fmt.Errorf("reading %s: %w", values, err)
	}
	written, err := replace(string(page), table)
	if err != nil {
		return fmt.Errorf("reading %s: %w", readme, err)
	}
	if err := os.WriteFile(readme, []byte(written), 0o644); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}

// replace puts the table between the two marks of the page.
func replace(page, table string) (string, error) {
	before, rest, found := strings.Cut(page, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", errors.New("no place for the table")
	}
	return before + begin + "\n" + table + "\n" + end + after, nil
}

func tableOf(values []byte) (string, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(values, &document); err != nil {
		return "", err
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return "", errors.New("not a map of values")
	}
	var table strings.Builder
	table.WriteString("| value | default | meaning |\n|---|---|---|\n")
	err := rows(&table, "", document.Content[0])
	return table.String(), err
}

// rows writes a row for each value of a map, in the file's order.
func rows(table *strings.Builder, prefix string, values *yaml.Node) error {
	for i := 0; i+1 < len(values.Content); i += 2 {
		key, value := values.Content[i], values.Content[i+1]
		path := prefix + key.Value
		if documented(value) {
			if err := rows(table, path+".", value); err != nil {
				return err
			}
			continue
		}
		doc := prose(key.HeadComment)
		if doc == "" {
			return fmt.Errorf("line %d: %s has no comment", key.Line, path)
		}
		var content any
		if err := value.Decode(&content); err != nil {
			return fmt.Errorf("line %d: %s: %w", value.Line, path, err)
		}
		shown, err := json.Marshal(content)
		if err != nil {
			return fmt.Errorf("line %d: %s: %w", value.Line, path, err)
		}
		fmt.Fprintf(table, "| `%s` | `%s` | %s |\n", path, shown, strings.ReplaceAll(doc, "|", `\|`))
	}
	return nil
}

// documented says whether a value is a map with a comment inside.
func documented(value *yaml.Node) bool {
	if value.Kind != yaml.MappingNode {
		return false
	}
	for _, node := range value.Content {
		if node.HeadComment != "" || documented(node) {
			return true
		}
	}
	return false
}

// prose joins the lines of a comment.
func prose(comment string) string {
	var words []string
	for line := range strings.Lines(comment) {
		words = append(words, strings.Fields(strings.TrimLeft(line, "# "))...)
	}
	return strings.Join(words, " ")
}
