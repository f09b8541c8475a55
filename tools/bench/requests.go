package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// daemonUser is whom the API server knows the daemon as.
const daemonUser = "system:serviceaccount:" + system + ":privyseal"

// mark is a place in the lab's two audit logs, to count from.
type mark struct{ api, vault int64 }

func (c *cluster) mark() (mark, error) {
	api, err := os.Stat(c.env["LAB_AUDIT_LOG"])
	if err != nil {
		return mark{}, fmt.Errorf("finding the API server's audit log: %w", err)
	}
	vault, err := os.Stat(c.env["LAB_VAULT_AUDIT_LOG"])
	if err != nil {
		return mark{}, fmt.Errorf("finding Vault's audit log: %w", err)
	}
	return mark{api.Size(), vault.Size()}, nil
}

// request of the daemon to the API server.
type request struct {
	verb, resource string // "patch", "secretclaims/status"
	object         string // namespace/name
	code           int
	at             time.Time // when it was answered
}

// requestsSince are the daemon's to the API server. What makes it the leader,
// the Lease and the event of that, is left out, and so are watches, which last.
func (c *cluster) requestsSince(m mark) ([]request, error) {
	var found []request
	err := lines(c.env["LAB_AUDIT_LOG"], m.api, func(line []byte) error {
		var entry struct {
			Verb, Stage, RequestURI string
			StageTimestamp          time.Time
			User                    struct{ Username string }
			ObjectRef               struct{ Resource, Subresource, Namespace, Name string }
			ResponseStatus          struct{ Code int }
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			return err
		}
		object := entry.ObjectRef
		if entry.User.Username != daemonUser || entry.Stage != "ResponseComplete" ||
			entry.Verb == "watch" || object.Resource == "leases" || object.Resource == "events" && object.Namespace == system {
			return nil
		}
		r := request{verb: entry.Verb, resource: object.Resource, object: object.Namespace + "/" + object.Name,
			code: entry.ResponseStatus.Code, at: entry.StageTimestamp}
		if object.Subresource != "" {
			r.resource += "/" + object.Subresource
		}
		if r.resource == "" {
			r.resource = "discovery"
		}
		found = append(found, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the API server's audit log: %w", err)
	}
	return found, nil
}

// writes are the requests that change something. Making a token or asking for
// a right changes nothing that is kept.
func writes(all []request) int {
	n := 0
	for _, r := range all {
		if r.resource != "serviceaccounts/token" && slices.Contains([]string{"create", "update", "patch", "delete"}, r.verb) {
			n++
		}
	}
	return n
}

// tallied are requests by verb and resource: "1000 create secrets, …".
func tallied(all []request) string {
	counts := map[string]int{}
	for _, r := range all {
		counts[r.verb+" "+r.resource]++
	}
	kinds := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, kind := range kinds {
		parts = append(parts, fmt.Sprintf("%d %s", counts[kind], kind))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// storeUse is what the daemon asked of Vault.
type storeUse struct {
	reads, logins, other int
	connections          int
}

// storeUseSince counts what anybody but root asked of Vault.
func (c *cluster) storeUseSince(m mark) (storeUse, error) {
	var use storeUse
	ports := map[string]bool{}
	err := lines(c.env["LAB_VAULT_AUDIT_LOG"], m.vault, func(line []byte) error {
		var entry struct {
			Type string
			Auth struct {
				DisplayName string `json:"display_name"`
			}
			Request struct {
				Path       string
				RemotePort int `json:"remote_port"`
			}
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			return err
		}
		if entry.Type != "request" || entry.Auth.DisplayName == "root" {
			return nil
		}
		ports[fmt.Sprint(entry.Request.RemotePort)] = true
		switch {
		case strings.HasPrefix(entry.Request.Path, "kv/data/"):
			use.reads++
		case strings.HasSuffix(entry.Request.Path, "/login"):
			use.logins++
		default:
			use.other++
		}
		return nil
	})
	if err != nil {
		return storeUse{}, fmt.Errorf("reading Vault's audit log: %w", err)
	}
	use.connections = len(ports)
	return use, nil
}

// lines calls do with each whole line of a file from a place on.
func lines(file string, from int64, do func(line []byte) error) (err error) {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if _, err := in.Seek(from, io.SeekStart); err != nil {
		return err
	}
	for reader := bufio.NewReader(in); ; {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // a line without an end is being written
		}
		if err == nil {
			err = do(line)
		}
		if err != nil {
			return err
		}
	}
}
