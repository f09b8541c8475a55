package template

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

// A claim's author must not be able to stall the daemon. Templates have no
// recursion ({{template}} is refused), so work grows in two ways only: by
// iterating, which the tick in every range body bounds, and by building ever
// longer strings, which the bounded functions below refuse. Functions that
// build lists or maps out of lists and maps are left out, since those nest.
const (
	// maxSteps bounds the iterations of all ranges of one rendering together.
	maxSteps = 10_000
	// maxVerbs bounds printf, whose verbs may each repeat an argument.
	maxVerbs = 16
	// maxIndent bounds indent and nindent, in spaces.
	maxIndent = 64
)

var errTooManySteps = fmt.Errorf("more than %d iterations", maxSteps)

// functions are those of Sprig (masterminds.github.io/sprig) and of
// text/template itself that are pure, deterministic and bounded.
func functions() template.FuncMap {
	fromSprig := []string{
		"trim", "trimAll", "trimSuffix", "trimPrefix", "upper", "lower", "title",
		"substr", "trunc", "contains", "hasPrefix", "hasSuffix", "quote", "squote",
		"cat", "nospace", "split", "splitList", "b64enc", "b64dec", "b32enc", "b32dec",
		"default", "empty", "coalesce", "ternary", "toString", "first", "last",
		"rest", "initial", "has", "without", "uniq", "compact", "sortAlpha",
		"get", "hasKey", "toJson", "toPrettyJson", "fromJson", "sha256sum",
		"regexMatch", "regexFind",
	}
	bounded := template.FuncMap{}
	hermetic := sprig.HermeticTxtFuncMap()
	for _, name := range fromSprig {
		bounded[name] = boundedFunction(hermetic[name])
	}
	for name, function := range map[string]any{
		"indent": indent, "join": join, "replace": replace, "printf": printf,
		"nindent": func(spaces int, text string) (string, error) {
			indented, err := indent(spaces, text)
			return "\n" + indented, err
		},
		"print": fmt.Sprint, "println": fmt.Sprintln, "html": template.HTMLEscaper,
		"js": template.JSEscaper, "urlquery": template.URLQueryEscaper,
	} {
		bounded[name] = boundedFunction(function)
	}
	steps := 0
	bounded[tick] = func() (string, error) {
		if steps++; steps > maxSteps {
			return "", errTooManySteps
		}
		return "", nil
	}
	return bounded
}

// boundedFunction refuses a call whose strings, together, are longer than a
// Secret. What is left of the functions lengthens its arguments by a constant
// factor at most.
func boundedFunction(function any) any {
	call := reflect.ValueOf(function)
	signature := call.Type()
	results := []reflect.Type{signature.Out(0), reflect.TypeFor[error]()}
	parameters := make([]reflect.Type, signature.NumIn())
	for i := range parameters {
		parameters[i] = signature.In(i)
	}
	wrapped := reflect.FuncOf(parameters, results, signature.IsVariadic())
	return reflect.MakeFunc(wrapped, func(arguments []reflect.Value) []reflect.Value {
		var total int
		for _, argument := range arguments {
			total += stringsIn(argument)
		}
		if total > maxOutput {
			return []reflect.Value{reflect.Zero(results[0]), reflect.ValueOf(&errTooLong).Elem()}
		}
		var returned []reflect.Value
		if signature.IsVariadic() {
			returned = call.CallSlice(arguments)
		} else {
			returned = call.Call(arguments)
		}
		if len(returned) == 1 {
			returned = append(returned, reflect.Zero(results[1]))
		}
		return returned
	}).Interface()
}

// stringsIn is the length of the strings in an argument, one list deep.
func stringsIn(argument reflect.Value) int {
	for argument.Kind() == reflect.Interface && !argument.IsNil() {
		argument = argument.Elem()
	}
	switch argument.Kind() {
	case reflect.String:
		return argument.Len()
	case reflect.Slice:
		var total int
		for i := range argument.Len() {
			if element := argument.Index(i); element.Kind() != reflect.Slice {
				total += stringsIn(element)
			}
		}
		return total
	default:
		return 0
	}
}

func indent(spaces int, text string) (string, error) {
	if spaces < 0 || spaces > maxIndent {
		return "", fmt.Errorf("indent by 0 to %d spaces", maxIndent)
	}
	pad := strings.Repeat(" ", spaces)
	return pad + strings.ReplaceAll(text, "\n", "\n"+pad), nil
}

func join(separator string, list []string) (string, error) {
	if len(separator)*len(list) > maxOutput {
		return "", errTooLong
	}
	return strings.Join(list, separator), nil
}

func replace(old, replacement, text string) (string, error) {
	if strings.Count(text, old)*len(replacement) > maxOutput {
		return "", errTooLong
	}
	return strings.ReplaceAll(text, old, replacement), nil
}

func printf(format string, arguments ...any) (string, error) {
	if strings.Count(format, "%") > maxVerbs {
		return "", errors.New("printf with more than 16 verbs")
	}
	return fmt.Sprintf(format, arguments...), nil
}
