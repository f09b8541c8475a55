package foreign

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/privyseal/privyseal/broker/reloader"
)

// Object is a Secret or ConfigMap of somebody else's.
type Object struct {
	Kind reloader.Kind
	types.NamespacedName
}

// Target is what the object is called among the targets that a workload is
// restarted for: "secret/db". No Secret of ours can have this name.
func (o Object) Target() string { return Target(o.Kind, o.Name) }

// Target is Object.Target for an object of any namespace.
func Target(kind reloader.Kind, name string) string { return string(kind) + "/" + name }

// CutTarget gives the kind and name of a name that Target gives; is: it does.
func CutTarget(target string) (kind reloader.Kind, name string, is bool) {
	word, name, is := strings.Cut(target, "/")
	if !is {
		return "", "", false
	}
	return reloader.Kind(word), name, true
}

// IsTarget says whether a name is one that Target gives.
func IsTarget(name string) bool { return strings.Contains(name, "/") }
