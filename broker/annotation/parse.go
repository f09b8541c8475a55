package annotation

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/providers"
)

// Prefix begins every annotation that is ours.
const Prefix = v1alpha1.Group + "/"

// What people write. Those that end in a dot are followed by a request's name.
const (
	SecretPrefix   = Prefix + "secret."
	EnvPrefix      = Prefix + "env."
	VolumePrefix   = Prefix + "volume."
	ModePrefix     = Prefix + "mode."
	TemplatePrefix = Prefix + "template."
	Containers     = Prefix + "containers"
	Restart        = Prefix + "restart"
)

// InjectedContainers is written by the webhook: the containers that it gave
// the pod's secrets to, in the pod's order. A pod that has it was injected.
const InjectedContainers = Prefix + "injected-containers"

// claimScheme before a name means an existing claim. A relative path that
// begins so is written from the store's root instead.
const claimScheme = "claim:"

// Limits of what is read. Each is far above what a pod needs, and below what
// the kinds in v1alpha1 take.
const (
	maxRequests   = 32
	maxName       = 40    // with privyseal- and the hash it still fits a DNS label
	maxPath       = 512   // Source.Path
	maxMountPath  = 512   // the kernel takes 4096
	maxTemplate   = 65536 // TemplateText
	maxKeys       = 128   // Source.Keys
	maxEnvName    = 253
	maxContainers = 64
	maxProblems   = 16
)

// Asks says whether any secret is asked for, without looking at whether that
// is well written.
func Asks(annotations map[string]string) bool {
	for key := range annotations {
		if strings.HasPrefix(key, SecretPrefix) {
			return true
		}
	}
	return false
}

// Parse reads the annotations of a pod template. Annotations of others, and
// those that Privyseal itself writes, are passed over. The error joins every
// problem (the first 16), each of which names its annotation and says what to
// do; it never repeats a template's text.
func Parse(annotations map[string]string) (Parsed, error) {
	p := parser{annotations: annotations}
	parsed := Parsed{
		Requests:   p.requests(),
		Containers: p.containers(),
		Restart:    p.restart(),
	}
	p.strangers(parsed.Requests)
	p.collisions(parsed.Requests)
	if len(p.problems) > 0 {
		return Parsed{}, p.err()
	}
	return parsed, nil
}

// parser collects the problems, so that one look shows them all.
type parser struct {
	annotations map[string]string
	problems    []error
}

// problem notes what is wrong with one annotation.
func (p *parser) problem(annotation, format string, args ...any) {
	p.problems = append(p.problems, fmt.Errorf("annotation %s: %w", show(annotation), fmt.Errorf(format, args...)))
}

func (p *parser) err() error {
	problems := p.problems
	if more := len(problems) - maxProblems; more > 0 {
		problems = append(slices.Clone(problems[:maxProblems]), fmt.Errorf("and %d problems more", more))
	}
	return errors.Join(problems...)
}

func (p *parser) requests() []Request {
	var requests []Request
	for _, key := range slices.Sorted(maps.Keys(p.annotations)) {
		name, ours := strings.CutPrefix(key, SecretPrefix)
		if !ours {
			continue
		}
		if len(requests) == maxRequests {
			p.problem(key, "a pod may ask for %d secrets at most; join some in a SecretClaim with several sources and ask for that", maxRequests)
			break
		}
		if len(name) > maxName || len(validation.IsDNS1123Label(name)) > 0 {
			p.problem(key, "the part after %q must be lower-case letters, digits and inner dashes, %d at most", "secret.", maxName)
		}
		// A request with a problem is kept, or its other annotations would be
		// reported as belonging to none.
		requests = append(requests, p.request(name))
	}
	return requests
}

func (p *parser) request(name string) Request {
	request := Request{Name: name}
	p.source(&request)
	p.template(&request)
	p.env(&request)
	p.volume(&request)
	return request
}

func (p *parser) source(request *Request) {
	key := SecretPrefix + request.Name
	value := p.annotations[key]
	if claim, named := strings.CutPrefix(value, claimScheme); named {
		if len(validation.IsDNS1123Subdomain(claim)) > 0 {
			p.problem(key, "%s is no name of a SecretClaim; write \"claim:db\" for the claim db", show(claim))
		}
		request.Claim = claim
		return
	}
	if len(value) > maxPath {
		p.problem(key, "the path is longer than %d bytes", maxPath)
	} else if _, err := providers.ParseRef(value); err != nil {
		p.problem(key, "%w; write a path below the environment's root (\"db\"), one from the store's root (\"/kv/shared/ca\"), or \"claim:NAME\"", err)
	}
	request.Path = value
}

func (p *parser) template(request *Request) {
	key := TemplatePrefix + request.Name
	text, given := p.annotations[key]
	switch {
	case !given:
		return
	case request.Claim != "":
		p.problem(key, "the claim %s has its own spec.template; put the text there, or give a path in place of the claim", show(request.Claim))
	case text == "":
		p.problem(key, "it is empty; write the template, or remove the annotation to get the keys as they are")
	case len(text) > maxTemplate:
		p.problem(key, "the template is longer than %d bytes; write a SecretClaim and ask for it by \"claim:NAME\"", maxTemplate)
	}
	request.Template = text
}

func (p *parser) env(request *Request) {
	key := EnvPrefix + request.Name
	value, given := p.annotations[key]
	if !given {
		return
	}
	prefix, all := strings.CutSuffix(value, "*")
	if all {
		request.Env = &Env{All: true, Prefix: prefix}
		p.envAll(key, *request)
		return
	}
	request.Env = &Env{Keys: p.envKeys(key, value)}
	if request.Template == "" {
		return
	}
	for _, chosen := range request.Env.Keys {
		if chosen.Key != request.Name {
			p.problem(key, "there is no key %s: %s renders one key, %s; write %q", show(chosen.Key), TemplatePrefix+request.Name, request.Name, request.Name+"=NAME")
		}
	}
}

// envAll checks the prefix of "PREFIX*".
func (p *parser) envAll(key string, request Request) {
	prefix := request.Env.Prefix
	if prefix != "" && !isEnvName(prefix) {
		p.problem(key, "%s cannot begin a variable's name; write \"*\" for all keys, \"DB_*\" for all with DB_ before them, or \"password=PGPASSWORD,user\" for some", show(prefix))
		return
	}
	// kubelet would skip the variable without a word.
	if request.Template != "" && !isEnvName(prefix+request.Name) {
		p.problem(key, "%s cannot be a variable's name; write %q", show(prefix+request.Name), request.Name+"=NAME")
	}
}

// envKeys reads "key[=NAME],…". Blanks around an item are passed over.
func (p *parser) envKeys(annotation, value string) []EnvKey {
	items := strings.SplitN(value, ",", maxKeys+1)
	if len(items) > maxKeys {
		p.problem(annotation, "it lists more than %d keys; write \"*\" for all", maxKeys)
		return nil
	}
	keys := make([]EnvKey, 0, len(items))
	for _, item := range items {
		key, name, renamed := strings.Cut(strings.Trim(item, " "), "=")
		if !renamed {
			name = key
		}
		switch {
		case len(validation.IsConfigMapKey(key)) > 0:
			p.problem(annotation, "%s is no key of a Secret; write \"*\" for all keys, \"DB_*\" for all with DB_ before them, or \"password=PGPASSWORD,user\" for some", show(key))
		case !isEnvName(name):
			p.problem(annotation, "%s cannot be a variable's name; write %q with a name of letters, digits and underscores", show(name), key+"=NAME")
		default:
			keys = append(keys, EnvKey{Key: key, Name: name})
		}
	}
	return keys
}

// isEnvName: a name that every API server and kubelet takes as a variable.
func isEnvName(name string) bool {
	return len(name) <= maxEnvName && len(validation.IsEnvVarName(name)) == 0
}

func (p *parser) volume(request *Request) {
	key := VolumePrefix + request.Name
	dir, given := p.annotations[key]
	mode := p.mode(request.Name)
	switch {
	case given:
		if problem := checkMountPath(dir); problem != "" {
			p.problem(key, "%s %s; write an absolute path such as %q", show(dir), problem, defaultDir(request.Name))
		}
	case request.Env == nil:
		dir = defaultDir(request.Name)
	default:
		if mode != nil {
			p.problem(ModePrefix+request.Name, "there are no files to give a mode to; add %s, or remove the mode", VolumePrefix+request.Name)
		}
		return
	}
	request.Volume = &Volume{Path: dir, Mode: mode}
}

func defaultDir(name string) string { return "/etc/secrets/" + name }

// checkMountPath says what is wrong with a directory to mount at. A path that
// is not clean is refused, for two ways to write one path would pass for two.
func checkMountPath(dir string) string {
	switch {
	case len(dir) > maxMountPath:
		return fmt.Sprintf("is longer than %d bytes", maxMountPath)
	case !path.IsAbs(dir):
		return "does not begin with a slash"
	case dir == "/":
		return "would hide the container's own files"
	case path.Clean(dir) != dir:
		return "has a doubled or trailing slash, or a segment \".\" or \"..\""
	case strings.ContainsFunc(dir, func(r rune) bool { return r <= 0x20 || r >= 0x7f || r == ':' || r == ',' }):
		return "has a blank, a colon, a comma or a character outside ASCII"
	}
	return ""
}

// mode reads privyseal.io/mode.<name>: octal, three digits with or without the
// leading zero. Decimal, which a Secret volume's YAML knows too, is not meant
// by anybody here.
func (p *parser) mode(name string) *int32 {
	key := ModePrefix + name
	value, given := p.annotations[key]
	if !given {
		return nil
	}
	digits := value
	if len(digits) == 4 {
		digits = strings.TrimPrefix(digits, "0")
	}
	mode, err := strconv.ParseUint(digits, 8, 9)
	if err != nil || len(digits) != 3 {
		p.problem(key, "%s is no file mode; write three octal digits, such as \"0440\"", show(value))
		return nil
	}
	bits := int32(mode) // at most 9 bits
	return &bits
}

func (p *parser) containers() []string {
	value, given := p.annotations[Containers]
	if !given {
		return nil
	}
	items := strings.SplitN(value, ",", maxContainers+1)
	if len(items) > maxContainers {
		p.problem(Containers, "it lists more than %d containers", maxContainers)
		return nil
	}
	names := make([]string, 0, len(items))
	for _, item := range items {
		name := strings.Trim(item, " ")
		switch {
		case len(validation.IsDNS1123Label(name)) > 0:
			p.problem(Containers, "%s is no container's name; write names with commas between: \"app,migrate\"", show(name))
		case slices.Contains(names, name):
			p.problem(Containers, "it lists %s twice", name)
		default:
			names = append(names, name)
		}
	}
	return names
}

func (p *parser) restart() v1alpha1.RestartPolicy {
	value, given := p.annotations[Restart]
	switch {
	case !given || value == "auto":
		return v1alpha1.RestartAuto
	case value == "never":
		return v1alpha1.RestartNever
	}
	p.problem(Restart, "%s is neither \"auto\" nor \"never\"", show(value))
	return ""
}

// strangers reports what is under privyseal.io/ and nothing that we know: a
// misspelt word, or a name that no secret.<name> introduces.
func (p *parser) strangers(requests []Request) {
	for _, key := range slices.Sorted(maps.Keys(p.annotations)) {
		rest, ours := strings.CutPrefix(key, Prefix)
		if !ours || isPlain(key) || strings.HasPrefix(key, SecretPrefix) {
			continue
		}
		word, name, _ := strings.Cut(rest, ".")
		if key == RestartNow || key == Canary {
			p.problem(key, "it goes on the workload itself or on a claim, not on its pods: there it would be a rollout by itself")
			continue
		}
		if !isWord(word + ".") {
			p.problem(key, "there is no such annotation; known are secret.NAME, env.NAME, volume.NAME, mode.NAME, template.NAME, containers and restart")
			continue
		}
		if !slices.ContainsFunc(requests, func(r Request) bool { return r.Name == name }) {
			p.problem(key, "there is no %s; add it with the path of the secret, or correct the name", show(SecretPrefix+name))
		}
	}
}

// isWord: word, with its dot, is followed by a request's name.
func isWord(word string) bool {
	switch Prefix + word {
	case EnvPrefix, VolumePrefix, ModePrefix, TemplatePrefix:
		return true
	}
	return false
}

// isPlain: annotations without a name, ours and those that we write.
func isPlain(key string) bool {
	switch key {
	case Containers, Restart, InjectedContainers,
		v1alpha1.AnnotationRestartedFor, v1alpha1.AnnotationInjectedFor, v1alpha1.AnnotationStartedWith,
		v1alpha1.AnnotationRevisions:
		return true
	}
	return false
}

// collisions reports two requests that want one variable or one directory. A
// directory inside another cannot be mounted either: the outer is read-only.
func (p *parser) collisions(requests []Request) {
	variables := map[string]string{} // :: variable → request
	for _, request := range requests {
		for _, name := range request.EnvNames() {
			if other, taken := variables[name]; taken {
				p.problem(EnvPrefix+request.Name, "the variable %s is already given by %s; choose another name: %q", show(name), EnvPrefix+other, "key=NAME")
			}
			variables[name] = request.Name
		}
	}
	for i, request := range requests {
		for _, other := range requests[:i] {
			if request.Volume == nil || other.Volume == nil {
				continue
			}
			if within(request.Volume.Path, other.Volume.Path) || within(other.Volume.Path, request.Volume.Path) {
				p.problem(VolumePrefix+request.Name, "%s and %s of secret.%s are one directory, or one inside the other; choose another",
					show(request.Volume.Path), show(other.Volume.Path), other.Name)
			}
		}
	}
}

// within: dir is outer or lies inside it.
func within(dir, outer string) bool {
	return dir == outer || strings.HasPrefix(dir, outer+"/")
}

// show quotes what somebody wrote, cut to a length that fits a message.
func show(written string) string {
	const longest = 80
	if len(written) > longest {
		return strconv.QuoteToASCII(written[:longest]) + "…"
	}
	return strconv.QuoteToASCII(written)
}
