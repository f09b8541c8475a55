package manifest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"text/template"

	"github.com/Masterminds/sprig/v3"

	"github.com/privyseal/privyseal/providers"
)

// functions are upstream's: Sprig's, but for those that look at the machine.
// Some give another answer each time (randAlphaNum, genCA, now), so whoever
// renders does it only when what is rendered has changed.
func functions() template.FuncMap {
	all := template.FuncMap(sprig.GenericFuncMap())
	for _, name := range []string{"env", "expandenv", "getHostByName"} {
		delete(all, name)
	}
	return all
}

// render renders the texts of spec.template.data. They see the opened values
// and, where there is no value of that key, each other's plain text.
func render(texts map[string]string, values map[string]providers.Value) (map[string][]byte, error) {
	known := map[string]string{}
	maps.Copy(known, texts)
	for key, value := range values {
		known[key] = string(value.Bytes())
	}
	rendered := map[string][]byte{}
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		// What goes wrong in a template may be told with the values in it.
		parsed, err := template.New(key).Funcs(functions()).Parse(texts[key])
		if err != nil {
			return nil, fmt.Errorf("spec.template.data[%s] is not a template", key)
		}
		var text bytes.Buffer
		if err := parsed.Execute(&text, known); err != nil {
			return nil, fmt.Errorf("spec.template.data[%s] does not render: a function fails on what it is given", key)
		}
		rendered[key] = text.Bytes()
	}
	return rendered, nil
}
