package brokertest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// installing is held by the one test that has Helm at work, which refuses a
// second.
var installing sync.Mutex

// annotationBuild is on the pods of a release, by the chart's podAnnotations.
const annotationBuild = "build"

// chart is the folder of the checkout that Helm is given.
func (l *Lab) chart() string { return filepath.Join(l.root, "charts/privyseal") }

// build tells releases apart: by the program, the chart and the values.
func (l *Lab) build(t testing.TB, values []string) string {
	t.Helper()
	program, err := os.ReadFile(filepath.Join(l.root, "bin/privyseal"))
	if err != nil {
		skipWithout(t, "bin/privyseal is missing; make it with: make image")
	}
	sum := sha256.New()
	_, _ = sum.Write(program)
	_, _ = fmt.Fprintf(sum, "%q", values)
	err = filepath.WalkDir(l.chart(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		_, _ = fmt.Fprintf(sum, "%q%q", path, content)
		return err
	})
	if err != nil {
		t.Fatalf("reading the chart: %v", err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// stands says that a release of that build is there and ready: Helm takes
// seconds to find that it has nothing to do.
func (l *Lab) stands(ctx context.Context, build string) bool {
	for _, name := range []string{"privyseal", "privyseal-webhook"} {
		deployment := &appsv1.Deployment{}
		if err := l.Client.Get(ctx, client.ObjectKey{Namespace: System, Name: name}, deployment); err != nil {
			return false
		}
		is, wanted := deployment.Status, *deployment.Spec.Replicas
		if deployment.Spec.Template.Annotations[annotationBuild] != build || is.ObservedGeneration != deployment.Generation ||
			wanted == 0 || is.Replicas != wanted || is.UpdatedReplicas != wanted || is.ReadyReplicas != wanted {
			return false
		}
	}
	return true
}
