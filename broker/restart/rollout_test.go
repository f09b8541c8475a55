package restart_test

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/broker/restart"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// generation2 is a workload whose template was restarted for db, at noon by the
// API server's note of it.
func generation2() (metav1.ObjectMeta, corev1.PodTemplateSpec) {
	at := metav1.NewTime(midday())
	return metav1.ObjectMeta{Name: "web", Generation: 2, ManagedFields: []metav1.ManagedFieldsEntry{
			{Manager: "kubectl"}, {Manager: "privyseal-restart", Time: &at}}},
		corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationRestartedFor: "db=2"}}}
}

func rollingDeployment(status appsv1.DeploymentStatus, conditions ...string) client.Object {
	meta, template := generation2()
	if status.ObservedGeneration == 0 {
		status.ObservedGeneration = 2
	}
	if len(conditions) == 2 {
		status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionFalse},
			{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionStatus(conditions[0]), Reason: conditions[1]}}
	}
	return &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: new(int32(3)), Template: template}, Status: status}
}

func rollingStatefulSet(strategy appsv1.StatefulSetUpdateStrategy, observed int64, current, update string) client.Object {
	meta, template := generation2()
	return &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Template: template, UpdateStrategy: strategy},
		Status: appsv1.StatefulSetStatus{ObservedGeneration: observed, CurrentRevision: current, UpdateRevision: update}}
}

func rollingDaemonSet(observed int64, updated, available int32) client.Object {
	meta, template := generation2()
	return &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Template: template},
		Status: appsv1.DaemonSetStatus{ObservedGeneration: observed, DesiredNumberScheduled: 3, UpdatedNumberScheduled: updated, NumberAvailable: available}}
}

func TestARolloutIsUnderWay(t *testing.T) {
	all := appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}
	for name, row := range map[string]struct {
		of   client.Object
		want bool
	}{
		"of a Deployment not seen by its controller":         {rollingDeployment(appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}), true},
		"of a Deployment with pods to make":                  {rollingDeployment(appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 2, AvailableReplicas: 2}), true},
		"of a Deployment with old pods":                      {rollingDeployment(appsv1.DeploymentStatus{Replicas: 4, UpdatedReplicas: 3, AvailableReplicas: 4}), true},
		"of a Deployment with pods to get available":         {rollingDeployment(appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 2}, "True", "ReplicaSetUpdated"), true},
		"not of a Deployment that is through":                {rollingDeployment(all, "True", "NewReplicaSetAvailable"), false},
		"not of a Deployment that was through, and lost one": {rollingDeployment(appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 2}, "True", "NewReplicaSetAvailable"), false},
		"not of a Deployment without a progress deadline":    {rollingDeployment(all), false},
		"of a StatefulSet with two revisions":                {rollingStatefulSet(appsv1.StatefulSetUpdateStrategy{}, 2, "a", "b"), true},
		"of a StatefulSet not seen by its controller":        {rollingStatefulSet(appsv1.StatefulSetUpdateStrategy{}, 1, "a", "a"), true},
		"not of a StatefulSet with one":                      {rollingStatefulSet(appsv1.StatefulSetUpdateStrategy{}, 2, "b", "b"), false},
		"not of a StatefulSet whose pods wait for a hand": {rollingStatefulSet(
			appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}, 2, "a", "b"), false},
		"of a DaemonSet with pods to make":            {rollingDaemonSet(2, 2, 3), true},
		"of a DaemonSet not seen by its controller":   {rollingDaemonSet(1, 3, 3), true},
		"not of a DaemonSet that is through":          {rollingDaemonSet(2, 3, 3), false},
		"not of a DaemonSet with a node that is away": {rollingDaemonSet(2, 3, 2), false},
	} {
		t.Run(name, func(t *testing.T) {
			kept, err := restart.KeepWorkload(row.of)
			if err != nil {
				t.Fatal(err)
			}
			for what, object := range map[string]client.Object{"as it is": row.of, "as the cache keeps it": kept.(client.Object)} {
				rollout := restart.RolloutOf(object, nil, midday())
				if rollout.UnderWay != row.want {
					t.Errorf("%s: %t", what, rollout.UnderWay)
				}
				if !rollout.Began.Equal(midday()) {
					t.Errorf("%s: it began %s", what, rollout.Began)
				}
			}
		})
	}
}

func TestARolloutFails(t *testing.T) {
	rolls := rollingDeployment(appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 1}, "True", "ReplicaSetUpdated")
	ready := restart.Pod{Line: "db=1", Ready: midday().Add(-time.Hour)}
	for name, row := range map[string]struct {
		of    client.Object
		pods  []restart.Pod
		after time.Duration
		want  string
	}{
		"not while it gets on": {of: rolls, pods: []restart.Pod{ready, {Line: "db=2"}}},
		"when a new pod is in trouble": {of: rolls, pods: []restart.Pod{ready, {Line: "db=2", Trouble: "ImagePullBackOff"}},
			want: "ImagePullBackOff"},
		"not when an old pod is": {of: rolls, pods: []restart.Pod{{Line: "db=1", Trouble: "CrashLoopBackOff"}, {Line: "db=2"}}},
		"when its deadline has passed": {of: rollingDeployment(appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 1}, "False", "ProgressDeadlineExceeded"),
			want: "its progress deadline is exceeded"},
		"when no new pod was made for too long": {of: rollingStatefulSet(appsv1.StatefulSetUpdateStrategy{}, 2, "a", "b"),
			after: 11 * time.Minute, want: "it gets no further"},
		"not when one was made lately": {of: rollingStatefulSet(appsv1.StatefulSetUpdateStrategy{}, 2, "a", "b"),
			pods: []restart.Pod{{Created: midday().Add(8 * time.Minute).Unix()}}, after: 11 * time.Minute},
		"not when it is through": {of: rollingDaemonSet(2, 3, 3), after: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			rollout := restart.RolloutOf(row.of, row.pods, midday().Add(row.after))
			if rollout.Fails != row.want {
				t.Errorf("it fails with %q", rollout.Fails)
			}
		})
	}
}

func TestAWorkloadIsReadySinceItsLastPodIs(t *testing.T) {
	of := rollingDaemonSet(2, 3, 3)
	early, late := restart.Pod{Ready: midday().Add(-time.Hour)}, restart.Pod{Ready: midday().Add(-time.Minute)}
	for name, row := range map[string]struct {
		pods []restart.Pod
		want time.Time
	}{
		"without pods":             {nil, time.Time{}},
		"with one":                 {[]restart.Pod{early}, early.Ready},
		"with two":                 {[]restart.Pod{early, late}, late.Ready},
		"with two, the other way":  {[]restart.Pod{late, early}, late.Ready},
		"with one that is not":     {[]restart.Pod{early, {}}, time.Time{}},
		"with the first that isnt": {[]restart.Pod{{}, early}, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := restart.RolloutOf(of, row.pods, midday()).Ready; !got.Equal(row.want) {
				t.Error(got)
			}
		})
	}
}

func TestAPodIsInTrouble(t *testing.T) {
	waiting := func(reason string) corev1.ContainerStatus {
		return corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}
	}
	ended := corev1.ContainerStatus{LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}}
	again := ended
	again.Ready = true
	isReady := []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	isReady[0].LastTransitionTime = metav1.NewTime(midday())
	for name, row := range map[string]struct {
		status corev1.PodStatus
		want   string
	}{
		"not when it is made":                         {corev1.PodStatus{}, ""},
		"not while its image is fetched":              {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waiting("ContainerCreating")}}, ""},
		"not while its first containers run":          {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waiting("PodInitializing")}}, ""},
		"when it crashes":                             {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waiting("CrashLoopBackOff")}}, "CrashLoopBackOff"},
		"when its first containers crash":             {corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{waiting("CrashLoopBackOff")}}, "CrashLoopBackOff"},
		"when its image is not there":                 {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waiting("ErrImagePull")}}, "ErrImagePull"},
		"between two crashes":                         {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{ended}}, "its containers end with errors"},
		"not when that container is ready now":        {corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{again}}, ""},
		"not when the pod is ready, whatever it says": {corev1.PodStatus{Conditions: isReady, ContainerStatuses: []corev1.ContainerStatus{ended}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Status: row.status}
			for range 3 { // as it is, as the cache keeps it, and as it keeps that
				if got := restart.TroubleOf(pod); got != row.want {
					t.Errorf("%q", got)
				}
				kept, err := restart.KeepPod(pod)
				if err != nil {
					t.Fatal(err)
				}
				pod = kept.(*corev1.Pod)
			}
		})
	}
}
