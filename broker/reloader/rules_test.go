package reloader_test

import (
	"strings"
	"testing"

	"github.com/privyseal/privyseal/broker/reloader"
)

type notes = map[string]string

// The cases of Reloader's documentation, one a row, and those that only its
// code tells of. A resource is a Secret db to which the workload refers, where
// the row does not say otherwise.
func TestAWorkloadIsRestartedForWhatReloaderWouldRestartItFor(t *testing.T) {
	const (
		auto          = "reloader.stakater.com/auto"
		search        = "reloader.stakater.com/search"
		match         = "reloader.stakater.com/match"
		ignore        = "reloader.stakater.com/ignore"
		secretAuto    = "secret.reloader.stakater.com/auto"
		mapAuto       = "configmap.reloader.stakater.com/auto"
		secretReload  = "secret.reloader.stakater.com/reload"
		mapReload     = "configmap.reloader.stakater.com/reload"
		secretExclude = "secrets.exclude.reloader.stakater.com/reload"
		mapExclude    = "configmaps.exclude.reloader.stakater.com/reload"
	)
	elsewhere := reloader.Resource{Kind: reloader.Secret, Name: "db"}
	settings := reloader.Resource{Kind: reloader.ConfigMap, Name: "settings", Referenced: true}
	marked := func(by ...string) reloader.Resource {
		r := reloader.Resource{Kind: reloader.Secret, Name: "db", Referenced: true, Annotations: notes{}}
		for _, annotation := range by {
			name, value, _ := strings.Cut(annotation, "=")
			r.Annotations[name] = value
		}
		return r
	}
	db := marked()
	named := func(name string) reloader.Resource { return reloader.Resource{Kind: reloader.Secret, Name: name} }
	all := reloader.Options{AutoAll: true}

	for _, row := range []struct {
		says     string
		workload notes
		template notes
		options  reloader.Options
		resource reloader.Resource
		want     reloader.Verdict
	}{
		{"nothing said, nothing done", nil, nil, reloader.Options{}, db, no("")},

		{"auto is for all that is referred to", notes{auto: "true"}, nil, reloader.Options{}, db, yes(auto)},
		{"of either kind", notes{auto: "true"}, nil, reloader.Options{}, settings, yes(auto)},
		{"and for nothing else", notes{auto: "true"}, nil, reloader.Options{}, elsewhere, no(auto)},
		{"auto may be any truth value", notes{auto: "1"}, nil, reloader.Options{}, db, yes(auto)},
		{"auto false is no auto", notes{auto: "false"}, nil, reloader.Options{}, db, no("")},

		{"typed auto is for its kind", notes{secretAuto: "true"}, nil, reloader.Options{}, db, yes(secretAuto)},
		{"and not for the other", notes{secretAuto: "true"}, nil, reloader.Options{}, settings, no("")},
		{"ConfigMaps have theirs", notes{mapAuto: "true"}, nil, reloader.Options{}, settings, yes(mapAuto)},
		{"one of both autos is enough", notes{auto: "false", secretAuto: "true"}, nil, reloader.Options{}, db, yes(secretAuto)},
		{"whichever it is", notes{auto: "true", secretAuto: "false"}, nil, reloader.Options{}, db, yes(auto)},

		{"a name is enough", notes{secretReload: "db"}, nil, reloader.Options{}, elsewhere, byName(secretReload)},
		{"names stand between commas", notes{secretReload: "api, db ,tls"}, nil, reloader.Options{}, elsewhere, byName(secretReload)},
		{"another name is not", notes{secretReload: "api"}, nil, reloader.Options{}, db, no("")},
		{"ConfigMaps have theirs", notes{mapReload: "settings"}, nil, reloader.Options{}, settings, byName(mapReload)},
		{"a Secret's name names no ConfigMap", notes{secretReload: "settings"}, nil, reloader.Options{}, settings, no("")},
		{"a name is a regular expression", notes{secretReload: "db-.*"}, nil, reloader.Options{}, named("db-main"), byName(secretReload)},
		{"from its beginning", notes{secretReload: "db-.*"}, nil, reloader.Options{}, named("my-db-main"), no("")},
		{"to its end", notes{secretReload: "db"}, nil, reloader.Options{}, named("db-main"), no("")},
		{"where a dot is any letter", notes{secretReload: "d.b"}, nil, reloader.Options{}, named("dab"), byName(secretReload)},
		{"and an alternative binds less than the ends", notes{secretReload: "a|b"}, nil, reloader.Options{}, named("a-long-one"), byName(secretReload)},
		{"an empty name names nothing", notes{secretReload: ""}, nil, reloader.Options{}, db, no("")},
		{"a name wins over auto", notes{secretReload: "db", auto: "true"}, nil, reloader.Options{}, db, byName(secretReload)},
		{"names and auto go together", notes{secretReload: "api", auto: "true"}, nil, reloader.Options{}, db, yes(auto)},

		{"what is excluded is not restarted for", notes{auto: "true", secretExclude: "db"}, nil, reloader.Options{}, db, no(secretExclude)},
		{"among others", notes{auto: "true", secretExclude: "api, db"}, nil, reloader.Options{}, db, no(secretExclude)},
		{"by its exact name", notes{auto: "true", secretExclude: "d.*"}, nil, reloader.Options{}, db, yes(auto)},
		{"even if it is named", notes{secretReload: "db", secretExclude: "db"}, nil, reloader.Options{}, db, no(secretExclude)},
		{"and by its kind", notes{auto: "true", mapExclude: "db"}, nil, reloader.Options{}, db, yes(auto)},
		{"an exclusion alone leaves the template's word", notes{secretExclude: "api"}, notes{auto: "true"}, reloader.Options{}, db, yes(auto)},
		{"and holds beside it", notes{secretExclude: "db"}, notes{auto: "true"}, reloader.Options{}, db, no(secretExclude)},
		{"a template excludes nothing", nil, notes{auto: "true", secretExclude: "db"}, reloader.Options{}, db, yes(auto)},

		{"a search finds what is marked", notes{search: "true"}, nil, reloader.Options{}, marked(match + "=true"), yes(search)},
		{"and not what is unmarked", notes{search: "true"}, nil, reloader.Options{}, db, no("")},
		{"a mark without a search does nothing", nil, nil, reloader.Options{}, marked(match + "=true"), no("")},
		{"search takes one word for true", notes{search: "1"}, nil, reloader.Options{}, marked(match + "=true"), no("")},
		{"what is found must be referred to", notes{search: "true"}, nil, reloader.Options{},
			reloader.Resource{Kind: reloader.Secret, Name: "db", Annotations: notes{match: "true"}}, no(search)},
		{"auto needs no mark beside a search", notes{search: "true", auto: "true"}, nil, reloader.Options{}, db, yes(auto)},

		{"a resource can stay out", notes{auto: "true"}, nil, reloader.Options{}, marked(ignore + "=true"), no(ignore)},
		{"though it is named", notes{secretReload: "db"}, nil, reloader.Options{}, marked(ignore + "=true"), no(ignore)},
		{"by one word alone", notes{auto: "true"}, nil, reloader.Options{}, marked(ignore + "=yes"), yes(auto)},

		{"the template's word counts where there is no other", nil, notes{auto: "true"}, reloader.Options{}, db, yes(auto)},
		{"and names in it", nil, notes{secretReload: "db"}, reloader.Options{}, elsewhere, byName(secretReload)},
		{"the workload's word wins", notes{auto: "false"}, notes{auto: "true"}, reloader.Options{}, db, no("")},
		{"also one of another rule", notes{secretReload: "api"}, notes{auto: "true"}, reloader.Options{}, db, no("")},
		{"but not one for the other kind", notes{mapReload: "settings"}, notes{auto: "true"}, reloader.Options{}, db, yes(auto)},

		{"auto-reload-all is for those that say nothing", nil, nil, all, db, yes(reloader.AutoReloadAll)},
		{"and refer to it", nil, nil, all, elsewhere, no(reloader.AutoReloadAll)},
		{"false opts out", notes{auto: "false"}, nil, all, db, no("")},
		{"on the template too", nil, notes{auto: "false"}, all, db, no("")},
		{"of one kind", notes{secretAuto: "false"}, nil, all, db, no("")},
		{"and not of the other", notes{secretAuto: "false"}, nil, all, settings, yes(reloader.AutoReloadAll)},
		{"names do not", notes{secretReload: "api"}, nil, all, db, yes(reloader.AutoReloadAll)},
	} {
		rules, err := reloader.Parse(row.workload, row.template, row.options)
		if err != nil {
			t.Errorf("%s: %v", row.says, err)
		}
		got := rules.Judge(row.resource)
		if got != row.want {
			t.Errorf("%s: got %+v, want %+v", row.says, got, row.want)
		}
		if got.Restarts && !rules.Any() {
			t.Errorf("%s: the rules say that they restart for nothing", row.says)
		}
	}
}

func yes(rule string) reloader.Verdict { return reloader.Verdict{Restarts: true, Rule: rule} }
func byName(rule string) reloader.Verdict {
	return reloader.Verdict{Restarts: true, ByName: true, Rule: rule}
}
func no(rule string) reloader.Verdict { return reloader.Verdict{Rule: rule} }

func TestWhatCannotBeUsedIsNamedAndTheRestHolds(t *testing.T) {
	for _, row := range []struct {
		says        string
		annotations notes
		names       []string
		restarts    bool
	}{
		{"an expression that does not compile", notes{"secret.reloader.stakater.com/reload": "a(,db"},
			[]string{"annotation secret.reloader.stakater.com/reload", `"a("`, "write a name"}, true},
		{"a word that is no truth value", notes{"reloader.stakater.com/auto": "yes"},
			[]string{"annotation reloader.stakater.com/auto", `"yes"`, `write "true" or "false"`}, false},
		{"a kind that is not watched", notes{"secretproviderclass.reloader.stakater.com/reload": "vault", "reloader.stakater.com/auto": "true"},
			[]string{"annotation secretproviderclass.reloader.stakater.com/reload", "no effect"}, true},
	} {
		rules, err := reloader.Parse(row.annotations, nil, reloader.Options{})
		if err == nil {
			t.Errorf("%s: no error", row.says)
			continue
		}
		for _, part := range row.names {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error does not say %s: %v", row.says, part, err)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: told more than once: %v", row.says, err)
		}
		got := rules.Judge(reloader.Resource{Kind: reloader.Secret, Name: "db", Referenced: true})
		if got.Restarts != row.restarts {
			t.Errorf("%s: got %+v", row.says, got)
		}
	}
}

func TestCachesKeepWhatIsReadAndNothingElse(t *testing.T) {
	for name, want := range map[string]bool{
		"reloader.stakater.com/auto":                       true,
		"secret.reloader.stakater.com/reload":              true,
		"configmaps.exclude.reloader.stakater.com/reload":  true,
		"deployment.reloader.stakater.com/paused-at":       true,
		"reloader.stakater.com/last-reloaded-from":         false,
		"notreloader.stakater.com/auto":                    false,
		"reloader.stakater.com":                            false,
		"kubectl.kubernetes.io/last-applied-configuration": false,
		"secretproviderclass.reloader.stakater.com/reload": true,
		"deployment.reloader.stakater.com/pause-period":    true,
	} {
		if got := reloader.Reads(name); got != want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
