package main

import (
	"strings"
	"testing"
)

const example = `# How much is written to the log.
logLevel: info

webhook:
  # Pods of the webhook; a change
  # of one|many restarts them.
  replicas: 2
  # What each may use.
  resources: {requests: {cpu: 20m}, limits: {memory: 128Mi}}
`

func TestATableHasARowForEachValueInTheFilesOrder(t *testing.T) {
	got, err := tableOf([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	want := "| value | default | meaning |\n|---|---|---|\n" +
		"| `logLevel` | `\"info\"` | How much is written to the log. |\n" +
		"| `webhook.replicas` | `2` | Pods of the webhook; a change of one\\|many restarts them. |\n" +
		"| `webhook.resources` | `{\"limits\":{\"memory\":\"128Mi\"},\"requests\":{\"cpu\":\"20m\"}}` | What each may use. |\n"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestAValueWithoutACommentIsRefused(t *testing.T) {
	_, err := tableOf([]byte("# Said.\na: 1\nb: 2\n"))
	if err == nil || !strings.Contains(err.Error(), "b has no comment") {
		t.Errorf("got %v, want an error that names b", err)
	}
}

func TestTheTableReplacesTheOneBeforeAndNothingElse(t *testing.T) {
	got, err := replace("above\n"+begin+"\nold\n"+end+"below\n", "new\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := "above\n" + begin + "\nnew\n\n" + end + "below\n"; got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestAPageWithoutAPlaceForTheTableIsRefused(t *testing.T) {
	if _, err := replace("above\n", "new\n"); err == nil {
		t.Error("replaced, want an error")
	}
}
