package restart

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/annotation"
)

// Pods that ask for a secret by annotation get it from the webhook. One that
// the webhook did not see runs without: the admission policy that refuses such
// pods was off, or came later. Those that are younger than the webhook's
// configuration should have been seen, so their workload is restarted, by one
// patch of the template that counts as a change like any other:
//
//	privyseal.io/injected-for: "<UID of the configuration>"
//
// The mark is what makes it one: a template that has it is not patched for that
// configuration again, whatever becomes of its pods. Older pods are told of and
// left alone, or installing Privyseal would be a rollout.

// Webhook is the configuration by which the API server calls the webhook.
type Webhook struct {
	// UID of the configuration; empty where there is none, or it does not see
	// the namespace.
	UID string
	// Since is when it was made, in Unix seconds.
	Since int64
	// Answers: the webhook has been there for a little while. Before that a
	// restart would be spent on pods that it does not see either.
	Answers bool

	// service that is called; empty where the configuration has a URL.
	service types.NamespacedName
}

// Lack is one secret that a pod asks for and does not have.
type Lack struct {
	// Claim that it asks for, and that is there.
	Claim string
	// Target of the claim.
	Target string
}

// Injection says how a workload stands with pods that lack a secret.
type Injection string

const (
	// Injected: every live pod has what it asks for.
	Injected Injection = ""
	// InjectionDue: pods of the present template are younger than the
	// configuration and lack a secret, and the template was not patched for
	// that. It is now.
	InjectionDue Injection = "due"
	// InjectionWaits: as InjectionDue, once the webhook answers.
	InjectionWaits Injection = "waits"
	// InjectionDeferred: as InjectionDue, once the environment's windows allow
	// it.
	InjectionDeferred Injection = "window"
	// InjectionRolling: pods that lack a secret are being replaced.
	InjectionRolling Injection = "rolling"
	// InjectionFailed: the template was patched, and its pods lack the secret
	// all the same. It is not patched again.
	InjectionFailed Injection = "failed"
	// InjectionOld: the pods are older than the configuration.
	InjectionOld Injection = "old"
	// InjectionNever: the template says privyseal.io/restart: never.
	InjectionNever Injection = "never"
	// NoInjection: there is no webhook, or none that sees the namespace.
	NoInjection Injection = "no-webhook"
)

// injection judges the pods that lack a secret. Those of a template that is not
// the newest are being replaced already, whoever had the idea, and another
// patch would be a second rollout.
func (f Facts) injection() Injection {
	var young, again, present bool
	for _, pod := range f.Pods {
		if len(pod.Lacks) == 0 || pod.Template != f.newestTemplate() {
			continue
		}
		present = true
		young = young || pod.Created > f.Webhook.Since
		again = again || pod.InjectedFor == f.Webhook.UID
	}
	switch {
	case !f.lacking():
		return Injected
	case f.Webhook.UID == "":
		return NoInjection
	case !present:
		return InjectionRolling
	case again:
		return InjectionFailed
	case !young:
		return InjectionOld
	case f.Never:
		return InjectionNever
	case f.InjectedFor == f.Webhook.UID:
		return InjectionRolling
	case !f.Webhook.Answers:
		return InjectionWaits
	}
	return InjectionDue
}

// newestTemplate is the template of the youngest live pod.
func (f Facts) newestTemplate() string {
	var newest Pod
	for _, pod := range f.Pods {
		if pod.Created >= newest.Created {
			newest = pod
		}
	}
	return newest.Template
}

func (f Facts) lacking() bool {
	return slices.ContainsFunc(f.Pods, func(pod Pod) bool { return len(pod.Lacks) > 0 })
}

// lacks are the secrets that some live pod lacks, each once, sorted.
func (f Facts) lacks() []Lack {
	all := map[Lack]bool{}
	for _, pod := range f.Pods {
		for _, lack := range pod.Lacks {
			all[lack] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b Lack) int {
		return slices.Compare([]string{a.Claim, a.Target}, []string{b.Claim, b.Target})
	})
}

// keepAsked drops what the template asks for no more: a restart would not bring
// it.
func (f Facts) keepAsked(template map[string]string) {
	asked := map[string]bool{}
	if parsed, err := annotation.Parse(template); err == nil {
		for _, request := range parsed.Requests {
			asked[request.ClaimName()] = true
		}
	}
	for i := range f.Pods {
		f.Pods[i].Lacks = slices.DeleteFunc(f.Pods[i].Lacks, func(lack Lack) bool { return !asked[lack.Claim] })
	}
}

// Says what becomes of pods that lack a secret, and what people can do.
func (i Injection) Says() string {
	switch i {
	case Injected:
		return "they have it"
	case InjectionDue, InjectionRolling:
		return "they are being replaced"
	case InjectionWaits:
		return "they are replaced once the webhook answers"
	case InjectionDeferred:
		return "they are replaced once the environment's windows allow it; kubectl rollout restart gives it to them now"
	case InjectionFailed:
		return "they were replaced once for that, and are not again; see why the webhook did not give it to them, then kubectl rollout restart"
	case InjectionOld:
		return "they are older than the webhook, and installing it restarts nobody; kubectl rollout restart gives it to them"
	case InjectionNever:
		return "annotation " + annotation.Restart + " says never; kubectl rollout restart gives it to them"
	case NoInjection:
		return "there is no webhook that sees this namespace; install it, then kubectl rollout restart"
	}
	return string(i)
}
