// Package foreign remembers what Secrets and ConfigMaps of others hold, so that
// their changes can be told from their being there.
//
// A target of ours carries the history of its content itself (package target).
// What others write carries nothing, and nothing is written on it. So the same
// history, keyed digests and the sequences at which they came into force, is kept
// for all of a namespace's in one ConfigMap:
//
//	kind: ConfigMap
//	metadata: {name: privyseal-foreign}
//	data:
//	  configmap: '{"settings":{"seen":"<uid>/<resourceVersion>","revisions":{…}}}'
//	  secret: '{"db":{"seen":"<uid>/<resourceVersion>","revisions":{"kid":"k1-d0c4b1e7","keys":{"password":[["9f3c…",1763800000],["77ab…",0]]}}}}'
//
// Values are read one object at a time, when its metadata says that it is not
// the one that was seen, and are dropped once they are digested.
//
// What is looked at for the first time is a baseline and no change. Where the
// ConfigMap is lost, so is what changed at the same time, and nothing restarts.
// A change counts once it is written here, and not before: whoever acted on it
// earlier and then died would leave the next daemon to find the change again,
// under another sequence.
//
// # Rights
//
// The service account needs, in each namespace:
//
//	"" secrets, configmaps get
//	"" configmaps          create, update
package foreign
