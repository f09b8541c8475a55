package restart

import (
	"fmt"
	"maps"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/annotation"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Workload names one workload. It is the key that the controller's queue
// works by.
type Workload struct {
	// Kind is Deployment, StatefulSet, DaemonSet or Rollout.
	Kind string
	types.NamespacedName
}

// compareWorkloads orders them by kind, namespace and name.
func compareWorkloads(a, b Workload) int { return strings.Compare(a.String(), b.String()) }

// String is kind/namespace/name.
func (w Workload) String() string { return w.Kind + "/" + w.NamespacedName.String() }

func (w Workload) gvk() schema.GroupVersionKind {
	if w.Kind == kindRollout {
		return ArgoRollout()
	}
	return appsv1.SchemeGroupVersion.WithKind(w.Kind)
}

// newObject is an empty object of the workload's kind; nil for a kind that is
// not restarted.
func (w Workload) newObject() client.Object {
	switch w.Kind {
	case "Deployment":
		return &appsv1.Deployment{}
	case "StatefulSet":
		return &appsv1.StatefulSet{}
	case "DaemonSet":
		return &appsv1.DaemonSet{}
	case kindRollout:
		return NewArgoRollout()
	}
	return nil
}

// shape is what a restart needs to know of a workload, alike for every kind.
type shape struct {
	client.Object
	template *corev1.PodTemplateSpec
	held     Standing
	// wantsPods: it is to have pods, so that having none is a moment between
	// the old ones and the new.
	wantsPods bool
	// underWay: a rollout is, unless something holds it. overdue: it takes longer
	// than the workload itself allows.
	underWay, overdue bool
	// atStep: the rollout waits at a step of its own for somebody to let it go on.
	atStep bool
	// byRestartAt: its pods are replaced once a time has passed, and its template stays.
	byRestartAt bool
	// restartAt is that time, as it was last set; zero: it never was.
	restartAt time.Time
	// passedOver says why the workload is not restarted; empty: it is.
	passedOver string
}

func shapeOf(object client.Object) (shape, error) {
	s := shape{Object: object, held: Rolling}
	switch object := object.(type) {
	case *appsv1.Deployment:
		s.template = &object.Spec.Template
		s.wantsPods = wanted(object.Spec.Replicas) > 0
		if object.Spec.Paused {
			s.held = HeldByPause
		}
		s.underWay, s.overdue = rolls(object)
	case *appsv1.StatefulSet:
		s.template = &object.Spec.Template
		s.wantsPods = wanted(object.Spec.Replicas) > 0
		s.held = heldStatefulSet(object.Spec.UpdateStrategy)
		s.underWay = rollsOn(object)
	case *appsv1.DaemonSet:
		s.template = &object.Spec.Template
		s.wantsPods = object.Status.DesiredNumberScheduled > 0
		if object.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
			s.held = HeldByOnDelete
		}
		s.underWay = rollsOver(object)
	case *unstructured.Unstructured:
		if !isArgo(object) {
			return shape{}, fmt.Errorf("reading a workload: a %s is not one", object.GroupVersionKind())
		}
		s = shapeOfArgo(object)
	default:
		return shape{}, fmt.Errorf("reading a workload: %T is not one", object)
	}
	return s, nil
}

func heldStatefulSet(strategy appsv1.StatefulSetUpdateStrategy) Standing {
	rolling := strategy.RollingUpdate
	switch {
	case strategy.Type == appsv1.OnDeleteStatefulSetStrategyType:
		return HeldByOnDelete
	case rolling != nil && rolling.Partition != nil && *rolling.Partition > 0:
		return HeldByPartition
	default:
		return Rolling
	}
}

// restartedFor is the line as it is written, on the template, or on the workload where
// the template is left alone, and whether it is there at all.
func (s shape) restartedFor() (line string, there bool) {
	if s.byRestartAt {
		line, there = s.GetAnnotations()[v1alpha1.AnnotationRestartedFor]
		return line, there
	}
	line, there = s.template.Annotations[v1alpha1.AnnotationRestartedFor]
	return line, there
}

// restarted is what the workload was restarted for, in whatever way: the template may
// have a line of before, or of the patch for pods that lack a secret.
func (s shape) restarted() map[string]int64 {
	line, _ := s.restartedFor()
	all := counters(line)
	if !s.byRestartAt {
		return all
	}
	if all == nil {
		all = map[string]int64{}
	}
	for name, sequence := range counters(s.template.Annotations[v1alpha1.AnnotationRestartedFor]) {
		all[name] = max(all[name], sequence)
	}
	return all
}

// madeFor says whether a pod was made for the last restart.
func (s shape) madeFor(pod Pod) bool {
	if s.byRestartAt {
		return !s.restartAt.IsZero() && pod.Created >= s.restartAt.Unix()
	}
	line, restarted := s.restartedFor()
	return restarted && pod.Line == line
}

// never: any word but auto. Whoever misspelt "never" did not mean to be
// restarted.
func (s shape) never() bool {
	word, there := s.template.Annotations[annotation.Restart]
	return there && word != "auto"
}

// live: not finished and not being deleted.
func live(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil &&
		pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// controllerOf is the object's controller, if it is of group apps or a Rollout.
func controllerOf(object metav1.Object) (owner *metav1.OwnerReference, known bool) {
	owner = metav1.GetControllerOfNoCopy(object)
	if owner == nil {
		return nil, false
	}
	group := appsv1.GroupName
	if owner.Kind == kindRollout {
		group = ArgoRollout().Group
	}
	version, err := schema.ParseGroupVersion(owner.APIVersion)
	return owner, err == nil && version.Group == group
}

// facts of the workload, given its live pods and the targets they read.
func (s shape) facts(w Workload, pods []Pod, targets map[string]Target) Facts {
	asked, _ := annotation.Reason(s.GetAnnotations())
	return Facts{
		Workload:      w.nameInStatus(),
		AskedNow:      asked,
		Never:         s.never(),
		RestartedFor:  s.restarted(),
		TemplateReads: ReadsOf(&s.template.Spec),
		Pods:          pods,
		Targets:       targets,
		Held:          s.held,
		InjectedFor:   s.template.Annotations[v1alpha1.AnnotationInjectedFor],
	}
}

// secretsRead are the names of all Secrets that pods and template read.
func secretsRead(template Reads, pods []Pod) []string {
	names := maps.Clone(template)
	for _, pod := range pods {
		maps.Copy(names, pod.Reads)
	}
	return names.secrets()
}

func metaOf(kind schema.GroupVersionKind) *metav1.PartialObjectMetadata {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(kind)
	return object
}
