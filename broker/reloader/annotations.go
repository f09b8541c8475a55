package reloader

import "strings"

const domain = "reloader.stakater.com/"

// Annotations that say what a workload is restarted for. They stand on the
// workload, or on its template.
const (
	Auto   = domain + "auto"
	Search = domain + "search"
)

// Annotations on a Secret or ConfigMap.
const (
	Ignore = domain + "ignore"
	Match  = domain + "match"
)

// Annotations on a Deployment that say how it is restarted.
const (
	PausePeriod = "deployment." + domain + "pause-period"
	// PausedAt is written beside spec.paused, and says who paused and when.
	PausedAt = "deployment." + domain + "paused-at"
)

// Strategy on a Rollout of Argo says how it is restarted.
const Strategy = domain + "rollout-strategy"

// Kind of what a workload is restarted for.
type Kind string

// The kinds. Their words begin annotations' names.
const (
	Secret    Kind = "secret"
	ConfigMap Kind = "configmap"
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{Secret, ConfigMap} }

// Reload names what to restart for.
func (k Kind) Reload() string { return string(k) + "." + domain + "reload" }

// Auto is Auto for this kind alone.
func (k Kind) Auto() string { return string(k) + "." + domain + "auto" }

// Exclude names what not to restart for. It alone has a plural.
func (k Kind) Exclude() string { return string(k) + "s.exclude." + domain + "reload" }

// withoutEffect are annotations of Reloader's for what comes by CSI drivers,
// which Privyseal does not watch.
func withoutEffect() []string {
	const class = "secretproviderclass"
	return []string{class + "." + domain + "reload", class + "." + domain + "auto", class + "es.exclude." + domain + "reload"}
}

// lastReloaded is what Reloader leaves on a template, for itself.
const lastReloaded = domain + "last-reloaded-from"

// Reads says whether an annotation of this name is among those that this
// package reads, for caches that keep no others.
func Reads(annotation string) bool {
	before, _, found := strings.Cut(annotation, "/")
	return found && annotation != lastReloaded &&
		(before+"/" == domain || strings.HasSuffix(before+"/", "."+domain))
}
