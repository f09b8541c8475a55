package manifest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/privyseal/privyseal/broker/manifest"
)

// written are ways to write a SealedSecret with the item "AgAB" called
// password: in each, AgAB is all that a new ciphertext replaces.
var written = map[string]string{
	"plain":                      "# of pay\napiVersion: bitnami.com/v1alpha1\nkind:   SealedSecret\nmetadata: {name: db, namespace: pay} # here\nspec:\n  encryptedData:\n    # ours\n    password:   AgAB   # rotated in May\n    user: AgCD\n",
	"double quotes":              "kind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nspec: {encryptedData: {\"password\": \"AgAB\"}}\n",
	"single quotes":              "kind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nspec:\n  encryptedData: {password: 'AgAB', user: 'AgAB2'}",
	"a literal block":            "kind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nspec:\n  encryptedData:\n    password: |-\n      AgAB\n    user: AgCD\n",
	"a folded block":             "kind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nspec:\n  encryptedData:\n    password: >\n      AgAB\n\n    # next\n    user: AgCD\n",
	"a literal block at the end": "kind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nspec:\n  encryptedData:\n    password: |\n      AgAB",
	"a tag and an anchor":        "kind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nspec:\n  encryptedData:\n    password: !!str &x AgAB\n",
	"the next line":              "kind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nspec:\n  encryptedData:\n    password:\n      AgAB\n",
	"lines of Windows":           "kind: SealedSecret\r\napiVersion: bitnami.com/v1alpha1\r\nspec:\r\n  encryptedData:\r\n    password: AgAB\r\n    user: AgCD\r\n",
	"letters of more bytes":      "kind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nspec: {template: {metadata: {labels: {ключ: \"日本\"}}}, encryptedData: {\"ü\": x, password: AgAB}}\n",
	"a byte order mark":          "\ufeffkind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nspec: {encryptedData: {password: AgAB}}\n",
	"JSON":                       "{\n\t\"kind\": \"SealedSecret\",\n\t\"apiVersion\": \"bitnami.com/v1alpha1\",\n\t\"spec\": {\t\"encryptedData\": {\"user\": \"x\", \"password\": \"AgAB\"}}\n}\n",
	"JSON in one line":           `{"kind":"SealedSecret","apiVersion":"bitnami.com/v1alpha1","spec":{"encryptedData":{"password":"AgAB"}}}`,
	"an unknown field":           "kind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nspec:\n  template: {metadata: {creationTimestamp: null, future: [1, 2.5, yes]}}\n  encryptedData:\n    password: AgAB\n",
}

const newText = "AgNEW+/=="

func TestANewCiphertextReplacesTheOldAndNothingElse(t *testing.T) {
	for name, text := range written {
		t.Run(name, func(t *testing.T) {
			file, err := manifest.Parse([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			edited, err := file.Replace([]manifest.Edit{{Object: file.Objects[0], Item: "password", Text: newText}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Replace(text, "AgAB", newText, 1), string(edited)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEachObjectOfAFileIsFoundAndEdited(t *testing.T) {
	one := "kind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nmetadata: {name: db, namespace: pay}\nspec: {encryptedData: {password: AgAB}}\n"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"documents": {one + "---\n# nothing\n---\n" + one + "---\nkind: ConfigMap\nmetadata: {name: x}\n",
			[]string{"document 1, SealedSecret pay/db", "document 3, SealedSecret pay/db", "document 4, ConfigMap x"}},
		"a list": {"kind: List\napiVersion: v1\nitems:\n- " + strings.ReplaceAll(strings.TrimSpace(one), "\n", "\n  ") + "\n- {kind: Secret, apiVersion: v1}\n",
			[]string{"document 1, SealedSecret pay/db", "document 1, Secret"}},
		"JSON objects": {written["JSON in one line"] + written["JSON"] + "\n{\"kind\":\"Secret\"}",
			[]string{"document 1, SealedSecret", "document 2, SealedSecret", "document 3, Secret"}},
		"nothing": {"# nothing\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := manifest.Parse([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			var edits []manifest.Edit
			for _, object := range file.Objects {
				got = append(got, object.String())
				if object.IsSealedSecret() {
					edits = append(edits, manifest.Edit{Object: object, Item: "password", Text: newText})
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			edited, err := file.Replace(edits)
			if err != nil || string(edited) != strings.ReplaceAll(c.text, "AgAB", newText) {
				t.Errorf("got %v\n%s", err, edited)
			}
		})
	}
}

func TestANewItemIsWrittenBesideTheOthers(t *testing.T) {
	for text, want := range map[string]string{
		"spec:\n  encryptedData:\n    a: AgAB # ours\n  template: {}\n":                    "spec:\n  encryptedData:\n    a: AgAB # ours\n    b: AgNEW+/==\n  template: {}\n",
		"spec:\r\n  encryptedData:\r\n    a: \"AgAB\"\r\n":                                 "spec:\r\n  encryptedData:\r\n    a: \"AgAB\"\r\n    b: AgNEW+/==\r\n",
		"spec:\n  encryptedData:\n    a: |-\n      AgAB\n\n  template: {}":                 "spec:\n  encryptedData:\n    a: |-\n      AgAB\n    b: AgNEW+/==\n\n  template: {}",
		"spec: {encryptedData: {a: AgAB}}":                                                 "spec: {encryptedData: {a: AgAB,\"b\": \"AgNEW+/==\"}}",
		"{\n  \"spec\": {\n    \"encryptedData\": {\n      \"a\": \"AgAB\"\n    }\n  }\n}": "{\n  \"spec\": {\n    \"encryptedData\": {\n      \"a\": \"AgAB\",\n      \"b\": \"AgNEW+/==\"\n    }\n  }\n}",
	} {
		file, err := manifest.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		edited, err := file.Replace([]manifest.Edit{{Object: file.Objects[0], Item: "b", Text: newText}})
		if err != nil || string(edited) != want {
			t.Errorf("%q: %v\n got %q\nwant %q", text, err, edited, want)
		}
	}
}

func TestWhatCannotBeEditedIsLeftAlone(t *testing.T) {
	for name, text := range map[string]string{
		"an alias":                      "x: &x AgAB\nspec: {encryptedData: {password: *x}}\n",
		"an anchor that others rely on": "spec: {encryptedData: {password: &x AgAB, user: *x}}\n",
		"nothing":                       "spec: {encryptedData: {}}\n",
		"no text":                       "spec: {encryptedData: {password: }}\n",
		"text in two lines":             "spec: {encryptedData: {password: AgAB\n AgCD}}\n",
	} {
		file, err := manifest.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Replace([]manifest.Edit{{Object: file.Objects[0], Item: "password", Text: newText}}); err == nil || !strings.Contains(err.Error(), "document 1") && !strings.Contains(err.Error(), "password") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestABadFileIsNamedByDocumentFieldAndItem(t *testing.T) {
	const head = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: db, namespace: pay}\n"
	const plain = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: pay}\n"
	for text, says := range map[string]string{
		"kind: x\n---\nkind: [hunter2\n":  "document 2: no YAML at line",
		"kind: *hunter2\n":                "document 1: no YAML",
		`{"kind": "x"} {"kind": hunter2}`: "document 2: no JSON at byte",
		`{"kind": "x"`:                    "document 1: no YAML",
		"- a\n":                           "document 1: it is not an object",
		"a: 1\na: 2\n":                    `line 2: key "a" is there twice`,
		"? [a]\n: b\n":                    "line 1: a key that is not a text",
		"\xff\xfe":                        "not UTF-8",
		strings.Repeat("{a: ", 80) + strings.Repeat("}", 80): "within each other",
		bomb():                                               "entries",
		"kind: List\nitems: [hunter2]\n":                     "items[0] is not an object",
		head + "spec: {encryptedData: [a]}":                  "document 1, SealedSecret pay/db: spec.encryptedData: want a mapping",
		head + "spec: {encryptedData: {password: 5}}":        "spec.encryptedData password: not a text",
		head + "spec: {encryptedData: {\"\": AgAB}}":         "an item without a name",
		head + "spec: {template: {immutable: hunter2}}":      "spec.template.immutable: want a bool",
		head + "spec: {template: {data: {a: {hunter2: 1}}}}": "spec.template.data: want a string",
		head + "spec: {encryptedData: {a: \"" + strings.Repeat("A", manifest.MaxObject) + "\"}}": "split it",
		plain + "data: {password: hunter2!}":                                                     "document 1, Secret pay/db: data password: not base64; write plain text under stringData",
		plain + "stringData: {password: 123456}":                                                 "stringData password: not a text; put it in quotes",
		strings.Replace(head, "SealedSecret", "SealedThing", 1):                                  "want kind SealedSecret",
	} {
		file, err := manifest.Parse([]byte(text))
		if err == nil {
			if object := file.Objects[0]; object.IsSecret() {
				_, err = object.Secret()
			} else {
				_, err = object.Sealed()
			}
		}
		if !errors.Is(err, manifest.ErrMalformed) || !strings.Contains(err.Error(), says) {
			t.Errorf("%.120q: got %v, want %q", text, err, says)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "123456") {
			t.Errorf("%.120q: the error quotes the text: %v", text, err)
		}
	}
	if _, err := manifest.Parse(make([]byte, manifest.MaxFile+1)); !errors.Is(err, manifest.ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

// bomb is a text of a kilobyte that stands for millions of entries.
func bomb() string {
	text := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := byte('1'); i < '8'; i++ {
		name := "*a" + string(i-1)
		text += "a" + string(i) + ": &a" + string(i) + " [" + strings.Repeat(name+", ", 9) + name + "]\n"
	}
	return text
}

// FuzzFile looks for texts that are read and cannot be edited honestly: what
// comes out differs in the ciphertext alone, or nothing comes out.
func FuzzFile(f *testing.F) {
	for _, text := range written {
		f.Add([]byte(text))
	}
	f.Add([]byte(bomb()))
	f.Add([]byte("x: &x AgAB\nspec: {encryptedData: {password: *x}}\n---\nkind: List\nitems: [{<<: {a: b}}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := manifest.Parse(text)
		if err != nil {
			return
		}
		for _, object := range file.Objects {
			sealed, err := object.Sealed()
			if err != nil {
				_, _ = object.Secret()
				continue
			}
			for _, item := range append(manifest.Items(sealed), "added", "1e3") {
				edited, err := file.Replace([]manifest.Edit{{Object: object, Item: item, Text: newText}})
				if err != nil {
					continue
				}
				again, err := manifest.Parse(edited)
				if err != nil || len(again.Objects) != len(file.Objects) {
					t.Fatalf("editing %q broke the file: %v\n%s", item, err, edited)
				}
			}
		}
	})
}

func TestAFieldCountsOnlyAsItIsSpelt(t *testing.T) {
	file, err := manifest.Parse([]byte(`{kind: Pod, apiVersion: v1, metadata: {name: web, Namespace: pay}, spec: {nodename: n}, status: {}}`))
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	unknown, err := file.Objects[0].Into(pod)
	if err != nil || len(unknown) != 2 || pod.Spec.NodeName != "" || pod.Name != "web" {
		t.Errorf("it reads %v, and %v, %v", pod, unknown, err)
	}
	file, err = manifest.Parse([]byte(`{kind: Pod, apiVersion: v1, metadata: {name: 5}, spec: {}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Objects[0].Into(pod); !errors.Is(err, manifest.ErrMalformed) || !strings.Contains(err.Error(), "metadata.name: want a string") {
		t.Errorf("it says %v", err)
	}
}
