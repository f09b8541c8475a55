package restart_test

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/restart"
)

func metadataOf(version, kind, namespace, name string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: version, Kind: kind},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
	}
}

func TestASnapshotHoldsWhatTheCacheWould(t *testing.T) {
	pod := func(namespace, name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": "web"}},
			Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c", Env: []corev1.EnvVar{{Name: "TOKEN", Value: "hunter2"}},
				EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "db"}}}}}}}}
	}
	snapshot, err := restart.NewSnapshot([]client.Object{
		pod("pay", "one"), pod("pay", "two"), pod("shop", "one"),
		metadataOf("v1", "Secret", "pay", "db"), metadataOf("v1", "Namespace", "", "pay"),
	})
	if err != nil {
		t.Fatal(err)
	}
	found := &corev1.Pod{}
	if err := snapshot.Get(t.Context(), types.NamespacedName{Namespace: "pay", Name: "two"}, found); err != nil || found.Name != "two" {
		t.Fatal(found, err)
	}
	if found.Spec.NodeName != "" || strings.Contains(found.String(), "hunter2") {
		t.Errorf("it keeps %s", found)
	}
	secret := metadataOf("v1", "Secret", "", "")
	if err := snapshot.Get(t.Context(), types.NamespacedName{Namespace: "pay", Name: "db"}, secret); err != nil || secret.Name != "db" {
		t.Error(secret, err)
	}
	// A Namespace's metadata is no Secret's, and a whole Secret is not there.
	for _, other := range []client.Object{metadataOf("v1", "Namespace", "", ""), &corev1.Secret{}} {
		if err := snapshot.Get(t.Context(), types.NamespacedName{Namespace: "pay", Name: "db"}, other); !apierrors.IsNotFound(err) {
			t.Errorf("of a %T it says %v", other, err)
		}
	}
	for name, row := range map[string]struct {
		options []client.ListOption
		want    int
	}{
		"all":              {nil, 3},
		"in a namespace":   {[]client.ListOption{client.InNamespace("pay")}, 2},
		"by an index":      {[]client.ListOption{client.InNamespace("pay"), client.MatchingFields{"privyseal.io/reads": "db"}}, 2},
		"by another value": {[]client.ListOption{client.InNamespace("pay"), client.MatchingFields{"privyseal.io/reads": "tls"}}, 0},
	} {
		pods := &corev1.PodList{}
		if err := snapshot.List(t.Context(), pods, row.options...); err != nil || len(pods.Items) != row.want {
			t.Errorf("%s: %d pods, %v", name, len(pods.Items), err)
		}
	}
	if err := snapshot.List(t.Context(), &corev1.PodList{}, client.MatchingLabels{"app": "web"}); err == nil {
		t.Error("it lists by labels, which the cache does not hold")
	}
}

func TestALookerTellsOfWhatIsThereAlone(t *testing.T) {
	snapshot, err := restart.NewSnapshot([]client.Object{&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "web"}}})
	if err != nil {
		t.Fatal(err)
	}
	looker := restart.NewLooker(snapshot, restart.Config{}, time.Unix(1_800_000_000, 0))
	here, is := restart.WorkloadOf(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "web"}})
	if facts, err := looker.Facts(t.Context(), here); !is || err != nil || len(facts.Pods) > 0 || facts.Hold.Holds() {
		t.Errorf("of %s it tells %v, %v", here, facts, err)
	}
	gone, is := restart.WorkloadOf(&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "web"}})
	if _, err := looker.Facts(t.Context(), gone); !is || !apierrors.IsNotFound(err) {
		t.Errorf("of %s it tells %v", gone, err)
	}
	if w, is := restart.WorkloadOf(&corev1.Pod{}); is {
		t.Errorf("a pod is %s", w)
	}
}
