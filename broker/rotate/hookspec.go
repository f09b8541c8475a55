package rotate

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/privyseal/privyseal/broker/v1alpha1"
	"github.com/privyseal/privyseal/rotation"
)

// addHooks checks what a spec wants run and waited for, and adds it to a plan.
func addHooks(spec v1alpha1.SecretRotationSpec, plan *rotation.Plan) error {
	if set := spec.Set; set != nil {
		if err := checkTimeout("spec.set.timeout", set.Timeout); err != nil {
			return err
		}
		if len(set.CredentialsPath) > maxPath {
			return fmt.Errorf("%s: want at most %d characters", credentialsField, maxPath)
		}
		plan.Set, plan.Timeouts.Set = true, durationOf(set.Timeout)
	}
	if verify := spec.Verify; verify != nil {
		switch {
		case verify.Consumers == "" && verify.Job == nil:
			return fmt.Errorf("spec.verify: give consumers, job, or both")
		case verify.Consumers != "" && verify.Consumers != v1alpha1.ConsumersReady:
			return fmt.Errorf("spec.verify.consumers %.64q: want %s", verify.Consumers, v1alpha1.ConsumersReady)
		}
		if err := checkTimeout("spec.verify.timeout", verify.Timeout); err != nil {
			return err
		}
		plan.Consumers, plan.Timeouts.Consumers = verify.Consumers != "", durationOf(verify.Timeout)
		plan.Verify, plan.Timeouts.Verify = verify.Job != nil, durationOf(verify.Timeout)
	}
	return checkJobs(spec)
}

func checkTimeout(field string, t *metav1.Duration) error {
	if t != nil && (t.Duration < rotation.MinTimeout || t.Duration > rotation.MaxTimeout) {
		return fmt.Errorf("%s %s: want from %s to %s", field, t.Duration, rotation.MinTimeout, rotation.MaxTimeout)
	}
	return nil
}

// jobsOf a spec.
func jobsOf(spec v1alpha1.SecretRotationSpec) hooks {
	jobs := hooks{}
	if spec.Set != nil {
		jobs[hookSet] = &spec.Set.Job
	}
	if spec.Verify != nil && spec.Verify.Job != nil {
		jobs[hookVerify] = spec.Verify.Job
	}
	return jobs
}

// checkJobs checks what the CRD does, and that the keys can be files.
func checkJobs(spec v1alpha1.SecretRotationSpec) error {
	jobs := jobsOf(spec)
	for _, kind := range slices.Sorted(maps.Keys(jobs)) {
		if err := checkJob("spec."+kind+".job", jobs[kind]); err != nil {
			return err
		}
	}
	if len(jobs) == 0 {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(spec.Generate)) {
		if !isFileName(key) {
			return fmt.Errorf("spec.generate[%.64q]: a job reads its values from files, and this can be none's name: give the key another, without / and .. and of at most %d bytes", key, maxFileName)
		}
	}
	return nil
}

// maxFileName leaves room for _previous.
const maxFileName = 240

func isFileName(key string) bool {
	return len(key) <= maxFileName && key != "." && !strings.HasPrefix(key, "..") && !strings.ContainsAny(key, "/\x00")
}

// Limits of a Job, as the CRD has them.
const (
	maxPath      = 512
	maxImage     = 512
	maxWords     = 16
	maxWord      = 4096
	maxVariables = 32
	maxVariable  = 2048
)

func checkJob(field string, job *v1alpha1.RotationJob) error {
	switch {
	case job.Image == "" || len(job.Image) > maxImage:
		return fmt.Errorf("%s.image: want 1 to %d characters", field, maxImage)
	case len(job.Env) > maxVariables:
		return fmt.Errorf("%s.env: want at most %d variables", field, maxVariables)
	}
	for name, words := range map[string][]string{"command": job.Command, "args": job.Args} {
		long := slices.ContainsFunc(words, func(word string) bool { return utf8.RuneCountInString(word) > maxWord })
		if len(words) > maxWords || long {
			return fmt.Errorf("%s.%s: want at most %d words of %d characters", field, name, maxWords, maxWord)
		}
	}
	for _, variable := range job.Env {
		if err := checkVariable(field, variable); err != nil {
			return err
		}
	}
	switch job.ImagePullPolicy {
	case "", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
		return nil
	}
	return fmt.Errorf("%s.imagePullPolicy %.64q: want Always, IfNotPresent or Never", field, job.ImagePullPolicy)
}

// variableName is what shells take.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

func checkVariable(field string, variable v1alpha1.RotationJobVariable) error {
	switch {
	case !variableName.MatchString(variable.Name):
		return fmt.Errorf("%s.env[%.64q]: want a name of letters, digits and _", field, variable.Name)
	case strings.HasPrefix(variable.Name, "PRIVYSEAL_"):
		return fmt.Errorf("%s.env[%.64q]: variables that begin with PRIVYSEAL_ are set by the daemon", field, variable.Name)
	case utf8.RuneCountInString(variable.Value) > maxVariable:
		return fmt.Errorf("%s.env[%.64q]: want at most %d characters", field, variable.Name, maxVariable)
	}
	return nil
}
