package manifest

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/Masterminds/sprig/v3"
)

// Upstream sets no bound to what a template does, and whoever may create a
// SealedSecret could stall the daemon for all. So each rendering has a budget:
// an iteration costs, a call costs what goes into it, and what makes much out of
// little costs what it could make. It is wide enough for what anyone would write.
const (
	maxOutput = 1 << 20  // bytes of one rendered value: a Secret holds no more
	maxWork   = 64 << 20 // bytes that the calls of one rendering take in
	stepCost  = 1 << 10  // of one iteration, or one call
	keyCost   = 6 << 20  // of making a key, a certificate or a password hash
)

var (
	errTooLong = errors.New("it makes more than 1 MiB")
	errTooMuch = errors.New("it takes more work than one template may; make it smaller")
)

type budget struct{ left int }

func (b *budget) spend(cost int) error {
	if cost < 0 || cost > b.left {
		b.left = 0
		return errTooMuch
	}
	b.left -= cost
	return nil
}

// functions are Sprig's without those that tell of the daemon's surroundings,
// and text/template's own that build strings.
func (b *budget) functions() template.FuncMap {
	metered := template.FuncMap{}
	for name, function := range sprig.GenericFuncMap() {
		metered[name] = b.metered(name, function)
	}
	for _, name := range []string{"env", "expandenv", "getHostByName"} {
		delete(metered, name)
	}
	for name, function := range map[string]any{
		"print": fmt.Sprint, "println": fmt.Sprintln, "printf": fmt.Sprintf, "html": template.HTMLEscaper,
		"js": template.JSEscaper, "urlquery": template.URLQueryEscaper,
	} {
		metered[name] = b.metered(name, function)
	}
	metered[step] = func() (string, error) { return "", b.spend(stepCost) }
	return metered
}

// step is the function that the body of every range and template calls first.
const step = "privysealStep"

// meter puts a step at the head of everything that can run again.
func (b *budget) meter(parsed *template.Template) error {
	stepping, err := template.New(step).Funcs(b.functions()).Parse("{{ " + step + " }}")
	if err != nil {
		return fmt.Errorf("parsing the step: %w", err)
	}
	for _, one := range parsed.Templates() {
		if one.Tree != nil && one.Root != nil {
			meterNode(one.Root, stepping.Root.Nodes[0])
			prepend(one.Root, stepping.Root.Nodes[0])
		}
	}
	return nil
}

func meterNode(node, step parse.Node) {
	switch node := node.(type) {
	case *parse.ListNode:
		if node == nil {
			return
		}
		for _, child := range node.Nodes {
			meterNode(child, step)
		}
	case *parse.IfNode:
		meterNode(node.List, step)
		meterNode(node.ElseList, step)
	case *parse.WithNode:
		meterNode(node.List, step)
		meterNode(node.ElseList, step)
	case *parse.RangeNode:
		meterNode(node.List, step)
		meterNode(node.ElseList, step)
		prepend(node.List, step)
	}
}

func prepend(list *parse.ListNode, node parse.Node) {
	list.Nodes = append([]parse.Node{node}, list.Nodes...)
}

// metered is the function, whose calls spend the budget.
func (b *budget) metered(name string, function any) any {
	call := reflect.ValueOf(function)
	signature := call.Type()
	results := []reflect.Type{signature.Out(0), reflect.TypeFor[error]()}
	parameters := make([]reflect.Type, signature.NumIn())
	for i := range parameters {
		parameters[i] = signature.In(i)
	}
	wrapped := reflect.FuncOf(parameters, results, signature.IsVariadic())
	return reflect.MakeFunc(wrapped, func(arguments []reflect.Value) []reflect.Value {
		err := b.spend(cost(name, arguments))
		if err == nil && ties(name, arguments) {
			err = errTooMuch
		}
		if err != nil {
			return []reflect.Value{reflect.Zero(results[0]), reflect.ValueOf(&err).Elem()}
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

// cost of a call, before it is made.
func cost(name string, arguments []reflect.Value) int {
	var size, number int
	for _, argument := range arguments {
		argumentSize, argumentNumber := measure(argument, maxWork, 0)
		size, number = saturating(size, argumentSize), max(number, argumentNumber)
	}
	switch name {
	case "genPrivateKey", "genCA", "genCAWithKey", "genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert",
		"genSignedCertWithKey", "derivePassword", "bcrypt", "htpasswd":
		return keyCost
	case "repeat", "until", "untilStep", "seq", "randAlpha", "randAlphaNum", "randAscii", "randNumeric", "randBytes", "indent", "nindent":
		return times(number, size+1)
	case "replace":
		old, by, text := arguments[0].String(), arguments[1].String(), arguments[2].String()
		return saturating(size, times(strings.Count(text, old), len(by)))
	case "printf":
		format := arguments[0].String()
		return times(strings.Count(format, "%"), saturating(size+stepCost, max(number, widest(format))))
	case "uniq", "mustUniq", "without", "mustWithout":
		return saturating(size, times(size, size)/256) // they compare each with each
	case "wrapWith":
		return times(arguments[1].Len()+1, arguments[2].Len()+1)
	case "join":
		return saturating(size, times(arguments[0].Len(), size))
	case "regexReplaceAll", "regexReplaceAllLiteral", "mustRegexReplaceAll", "mustRegexReplaceAllLiteral":
		return times(arguments[1].Len()+1, arguments[2].Len()+1)
	}
	return saturating(size, stepCost)
}

func saturating(a, b int) int {
	if a > math.MaxInt-b {
		return math.MaxInt
	}
	return a + b
}

func times(a, b int) int {
	if b != 0 && a > math.MaxInt/b {
		return math.MaxInt
	}
	return a * b
}

// widest number in a format, which may be a width.
func widest(format string) int {
	var most, number int
	for _, r := range format {
		if r < '0' || r > '9' {
			number = 0
			continue
		}
		number = min(number*10+int(r-'0'), maxWork)
		most = max(most, number)
	}
	return most
}

// maxNesting bounds lists and dicts within each other.
const maxNesting = 32

// measure is how much an argument holds, at most about `most`, and the largest
// number in it, without its sign. What is nested too deeply holds too much.
func measure(argument reflect.Value, most, depth int) (size, number int) {
	argument = concrete(argument)
	if depth > maxNesting {
		return math.MaxInt, 0
	}
	switch argument.Kind() {
	case reflect.String:
		return argument.Len(), 0
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return 8, int(max(argument.Int(), -argument.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return 8, int(min(argument.Uint(), math.MaxInt))
	case reflect.Float32, reflect.Float64:
		return 8, int(min(math.Abs(argument.Float()), 1<<40))
	case reflect.Slice, reflect.Array:
		for i := 0; i < argument.Len() && size < most; i++ {
			one, its := measure(argument.Index(i), most-size, depth+1)
			size, number = saturating(size, saturating(one, 8)), max(number, its)
		}
	case reflect.Map:
		for entries := argument.MapRange(); entries.Next() && size < most; {
			one, its := measure(entries.Value(), most-size, depth+1)
			key, _ := measure(entries.Key(), most, depth+1)
			size, number = saturating(size, saturating(one, key+8)), max(number, its)
		}
	}
	return size, number
}

func concrete(value reflect.Value) reflect.Value {
	for value.Kind() == reflect.Interface || value.Kind() == reflect.Pointer {
		value = value.Elem() // of nil: the zero Value, of no kind
	}
	return value
}

// ties says whether the call would put a dict into itself. Printing that ends
// the program, not the template.
func ties(name string, arguments []reflect.Value) bool {
	var into map[uintptr]bool
	var put []reflect.Value
	switch name {
	case "set":
		into, put = map[uintptr]bool{concrete(arguments[0]).Pointer(): true}, arguments[2:]
	case "merge", "mergeOverwrite", "mustMerge", "mustMergeOverwrite":
		into, put = map[uintptr]bool{}, arguments[1:]
		dicts(arguments[0], func(dict uintptr) { into[dict] = true })
	}
	var found bool
	for _, value := range put {
		dicts(value, func(dict uintptr) { found = found || into[dict] })
	}
	return found
}

// dicts visits every dict in the value. There is no ring in it, for none is
// ever tied, and its size has been paid for.
func dicts(value reflect.Value, visit func(dict uintptr)) {
	value = concrete(value)
	switch value.Kind() {
	case reflect.Map:
		visit(value.Pointer())
		for entries := value.MapRange(); entries.Next(); {
			dicts(entries.Value(), visit)
		}
	case reflect.Slice, reflect.Array:
		for i := range value.Len() {
			dicts(value.Index(i), visit)
		}
	}
}
