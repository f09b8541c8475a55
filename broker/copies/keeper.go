package copies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/privyseal/privyseal/broker/repository"
	"github.com/privyseal/privyseal/broker/seal"
	"github.com/privyseal/privyseal/broker/v1alpha1"
)

// Defaults of a Config.
const (
	// DefaultCollect is how long changes are collected for one commit.
	DefaultCollect = 5 * time.Second

	// DefaultLook is how often the repository is looked at where nothing
	// changed here: somebody may have changed it there.
	DefaultLook = 10 * time.Minute

	// timeout of one run, from the first question to the answer to the push.
	timeout = 5 * time.Minute

	// DefaultCheck is how often every copy is opened.
	DefaultCheck = 24 * time.Hour

	// attempts to push in one run, where others are first each time.
	attempts = 5
)

// SealingKeys are this installation's own keys of version 2.
type SealingKeys struct {
	// Seal is the key to seal to.
	Seal *seal.PublicKey
	// Known are the ids of all keys that this installation opens with.
	Known []seal.KeyID
	// Open are those keys.
	Open *seal.Keys
}

// KeySource gives the installation's own keys.
type KeySource interface {
	SealingKeys(ctx context.Context) (SealingKeys, error)
}

// Config of a Keeper. Told, Events, Registerer, Collect, Look, Check and Retry
// may be left out.
type Config struct {
	// Cache reads claims, environments, and the metadata of namespaces and
	// Secrets.
	Cache client.Reader

	// Live reads Secrets from the API server itself.
	Live client.Reader

	// Keys are the installation's own sealing keys.
	Keys KeySource

	// Namespace of the daemon, where credentials lie.
	Namespace string

	// AllowHTTP permits repositories over plain http, for development.
	AllowHTTP bool

	// Clock is the time.
	Clock clock.PassiveClock

	// Told hears of each claim's target whose condition is another now. Nil:
	// nobody does.
	Told func(target types.NamespacedName)

	// Events tells people what became of their claim's copy. Nil: nobody is told.
	Events events.EventRecorder

	// Registerer takes the metrics. Nil: there are none.
	Registerer prometheus.Registerer

	// Collect is how long changes are collected for one commit. 0:
	// DefaultCollect.
	Collect time.Duration

	// Look is how often a repository is looked at where nothing changed here.
	// 0: DefaultLook.
	Look time.Duration

	// Check is how often every copy is opened, and compared with its target. It
	// is done at the start as well. 0: DefaultCheck.
	Check time.Duration

	// Retry is how long a run that did not work waits at first; each next one
	// waits twice as long, up to five minutes. 0: five seconds.
	Retry time.Duration
}

// Keeper keeps the copies.
type Keeper struct {
	config  Config
	told    *told
	metrics *counters
	wakes   chan types.NamespacedName

	mu    sync.Mutex
	known map[string]seen // environment → its repository
	// proven says when each recovery key was last shown to open copies.
	proven map[string]time.Time
}

// seen is a repository as it was last looked at.
type seen struct {
	git    v1alpha1.SealingGit
	head   string
	lies   map[string]lying
	copies map[string]copied
	at     time.Time

	// flaws are those that were found when all copies were opened, by path, and
	// flawed is their number. checked is when that was.
	flaws   map[string]flaw
	flawed  int
	checked time.Time

	// recipients are the ids of the environment's recovery keys.
	recipients []string
}

// New makes a Keeper.
func New(config Config) *Keeper {
	config.Collect = cmp.Or(config.Collect, DefaultCollect)
	config.Look = cmp.Or(config.Look, DefaultLook)
	config.Check = cmp.Or(config.Check, DefaultCheck)
	config.Retry = cmp.Or(config.Retry, 5*time.Second)
	k := &Keeper{config: config, told: newTold(), known: map[string]seen{}, wakes: make(chan types.NamespacedName, 1024)}
	k.metrics = newCounters(config.Registerer, k)
	return k
}

// Sealed is what a claim's Sealed condition should be: its zero value says that
// there should be none, and known is false until that was judged.
func (k *Keeper) Sealed(claim types.NamespacedName) (is metav1.Condition, known bool) {
	return k.told.of(claim)
}

// Keep has the copy of a claim's target looked at, if it is not known to be
// of that sequence. It does not wait.
func (k *Keeper) Keep(claim types.NamespacedName, sequence int64) {
	if k.told.current(claim, sequence) {
		return
	}
	select {
	case k.wakes <- claim:
	default: // all at once, as at the start: the loop looks at everything then
	}
}

// sync brings one environment's repository up to date.
func (k *Keeper) sync(ctx context.Context, environment string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	home := &v1alpha1.Environment{}
	err := k.config.Cache.Get(ctx, types.NamespacedName{Name: environment}, home)
	if apierrors.IsNotFound(err) || err == nil && home.Spec.Sealing == nil {
		k.forget(environment)
		return k.tellWithout(ctx)
	}
	if err != nil {
		return fmt.Errorf("looking up environment %s: %w", environment, err)
	}
	gathered := facts{environment: home, others: map[types.NamespacedName]others{}}
	if err := k.prepare(ctx, &gathered); err != nil {
		return k.fail(gathered, err)
	}
	for range attempts {
		if err = k.round(ctx, gathered); !errors.Is(err, repository.ErrConflict) {
			break
		}
		log.FromContext(ctx).Info("somebody else pushed meanwhile; sealed copies go on top of theirs", "environment", environment)
	}
	if err != nil {
		return k.fail(gathered, err)
	}
	return nil
}

// prepare gathers what is to be known of the cluster.
func (k *Keeper) prepare(ctx context.Context, gathered *facts) error {
	checked := checkPath(gathered.environment.Spec.Sealing.Git.Path, gathered.environment.Name)
	if checked != nil {
		// Claims are told all the same, so they have to be known.
		gathered.environment = gathered.environment.DeepCopy()
		gathered.environment.Spec.Sealing.Git.Path = ""
	}
	if err := k.gatherClaims(ctx, gathered); err != nil {
		return err
	}
	if checked != nil {
		return checked
	}
	var err error
	gathered.keys, err = k.gatherKeys(ctx, gathered.environment.Spec.Sealing)
	return err
}

// round looks, decides and commits once.
func (k *Keeper) round(ctx context.Context, gathered facts) error {
	git := gathered.environment.Spec.Sealing.Git
	last, remembered := k.remembered(gathered)
	due := k.config.Clock.Now().Sub(last.checked) >= k.config.Check
	if remembered && !due && k.config.Clock.Now().Sub(last.at) < k.config.Look {
		gathered.lies, gathered.copies, gathered.flaws = last.lies, last.copies, last.flaws
		if made := decide(gathered); len(made.write)+len(made.remove) == 0 {
			k.tell(gathered, made)
			return nil
		}
	}
	repo, err := k.open(ctx, git)
	if err != nil {
		return err
	}
	now, tree, err := k.look(ctx, repo, gathered, last, remembered && !due)
	if err != nil {
		return err
	}
	if due {
		if err := k.check(ctx, tree, gathered, &now); err != nil {
			return err
		}
	}
	k.readProofs(ctx)
	now.recipients = gathered.keys.recipientIDs()
	gathered.lies, gathered.copies, gathered.flaws = now.lies, now.copies, now.flaws
	made := decide(gathered)
	if len(made.write)+len(made.remove) == 0 {
		k.remember(gathered.environment.Name, now)
		k.tell(gathered, made)
		return nil
	}
	if tree == nil {
		if tree, err = repo.Fetch(ctx); err != nil {
			return err
		}
		if tree.Head() != now.head {
			return repository.ErrConflict
		}
	}
	return k.commit(ctx, repo, tree, gathered, now, made)
}

// look looks at the repository: at its branch alone, if that has not moved.
func (k *Keeper) look(ctx context.Context, repo *repository.Repository, gathered facts, last seen, remembered bool) (seen, *repository.Tree, error) {
	if remembered {
		head, err := repo.Head(ctx)
		if err != nil {
			return seen{}, nil, err
		}
		if head == last.head {
			last.at = k.config.Clock.Now()
			return last, nil, nil
		}
	}
	tree, err := repo.Fetch(ctx)
	if err != nil {
		return seen{}, nil, err
	}
	now := seen{
		git: gathered.environment.Spec.Sealing.Git, head: tree.Head(), at: k.config.Clock.Now(),
		lies: map[string]lying{}, copies: map[string]copied{}, flaws: map[string]flaw{}, checked: last.checked,
	}
	for _, wanted := range gathered.wanted {
		if now.lies[wanted.path], err = lyingAt(tree, wanted.path); err != nil {
			return seen{}, nil, err
		}
	}
	err = tree.Files(maxFile, func(name string) bool { return path.Ext(name) == ".yaml" || path.Ext(name) == ".yml" },
		func(name string, content []byte) {
			if found, err := read(content); err == nil {
				now.copies[name] = found
				if flaw, known := last.flaws[name]; known {
					now.flaws[name] = flaw
				}
			}
		})
	return now, tree, err
}

// lyingAt says what lies at a path. Its error is none of the path.
func lyingAt(tree *repository.Tree, path string) (lying, error) {
	content, err := tree.File(path)
	switch {
	case errors.Is(err, repository.ErrNoFile):
		return lying{}, nil
	case errors.Is(err, repository.ErrOccupied):
		return lying{there: true, err: err}, nil
	case err != nil:
		return lying{}, err
	}
	found, err := read(content)
	return lying{there: true, copy: found, err: err}, nil
}

// remembered is what is known of the environment's repository, if it is known
// of all paths that are wanted now. Of another repository nothing is known.
func (k *Keeper) remembered(gathered facts) (seen, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	last, found := k.known[gathered.environment.Name]
	git := gathered.environment.Spec.Sealing.Git
	if last.git.URL != git.URL || branchOf(last.git) != branchOf(git) {
		return seen{}, false
	}
	for _, wanted := range gathered.wanted {
		_, looked := last.lies[wanted.path]
		found = found && looked
	}
	return last, found
}

func (k *Keeper) remember(environment string, now seen) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now.flawed = len(now.flaws)
	k.known[environment] = now
}

func (k *Keeper) forget(environment string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.known, environment)
}

// commit seals what is to be written, pushes, and tells.
func (k *Keeper) commit(ctx context.Context, repo *repository.Repository, tree *repository.Tree, gathered facts, now seen, made decision) error {
	changes := map[string][]byte{}
	var written []wanted
	mended := map[types.NamespacedName]flaw{}
	for _, wanted := range made.write {
		mends := flawBefore(tree, gathered, wanted)
		content, err := k.seal(ctx, gathered, &wanted)
		switch {
		case errors.Is(err, errNotReady):
			continue // its claim comes back to it, and so do we
		case errors.Is(err, seal.ErrTooLarge), errors.Is(err, seal.ErrLabel), errors.Is(err, errUnproven):
			made.tell[wanted.claim()] = condition{is: metav1.ConditionFalse, reason: v1alpha1.ReasonCopyInvalid, message: err.Error()}
			continue
		case err != nil:
			return err
		}
		changes[wanted.path] = content
		written = append(written, wanted)
		mended[wanted.claim()] = mends
	}
	for _, gone := range made.remove {
		changes[gone] = nil
	}
	if len(changes) == 0 {
		k.remember(gathered.environment.Name, now)
		k.tell(gathered, made)
		return nil
	}
	head, err := repo.Commit(ctx, tree, changes, message(gathered.environment.Name, written, made.remove), k.config.Clock.Now())
	if err != nil {
		return err
	}
	k.metrics.pushed()
	log.FromContext(ctx).Info("sealed copies pushed", "environment", gathered.environment.Name,
		"commit", head, "written", len(written), "removed", len(made.remove))
	for name, content := range changes {
		now.noteWritten(name, content)
	}
	now.head = head
	k.remember(gathered.environment.Name, now)
	for _, wanted := range written {
		made.tell[wanted.claim()] = inGit(gathered.environment, wanted)
		k.announceKept(gathered.environment, wanted, mended[wanted.claim()])
	}
	k.tell(gathered, made)
	return nil
}

// noteWritten keeps in mind what a commit did.
func (s seen) noteWritten(name string, content []byte) {
	delete(s.copies, name)
	delete(s.flaws, name)
	s.lies[name] = lying{}
	if content == nil {
		return
	}
	if found, err := read(content); err == nil {
		s.copies[name] = found
		s.lies[name] = lying{there: true, copy: found}
	}
}

// errNotReady: the target is not, or no longer, as its claim left it.
var errNotReady = errors.New("the target is not ready")

// seal reads the target and writes its copy. The sequence comes from the very
// object that the values come from.
func (k *Keeper) seal(ctx context.Context, gathered facts, wanted *wanted) ([]byte, error) {
	data, sequence, err := k.target(ctx, *wanted)
	if err != nil {
		return nil, err
	}
	defer clearAll(data)
	wanted.Sequence = sequence
	return write(wanted.head, wanted.metadata, data, gathered.keys)
}

// target reads what a claim's target holds, and the sequence of that. The caller
// clears it. Errors are errNotReady, or the API server's.
func (k *Keeper) target(ctx context.Context, wanted wanted) (data map[string][]byte, sequence int64, err error) {
	secret := &corev1.Secret{}
	err = k.config.Live.Get(ctx, wanted.Secret, secret)
	if apierrors.IsNotFound(err) {
		return nil, 0, errNotReady
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading Secret %s: %w", wanted.Secret, err)
	}
	sequence, ready := sequenceOf(secret, types.UID(wanted.ClaimUID))
	if !ready {
		clearAll(secret.Data)
		return nil, 0, errNotReady
	}
	return secret.Data, sequence, nil
}

func clearAll(data map[string][]byte) {
	for _, value := range data {
		clear(value)
	}
}

// message of a commit: one copy by its name, more by their number.
func message(environment string, written []wanted, removed []string) string {
	switch {
	case len(written) == 1 && len(removed) == 0:
		return fmt.Sprintf("%s: seal %s\n", environment, written[0].Secret)
	case len(written) == 0 && len(removed) == 1:
		return fmt.Sprintf("%s: remove %s\n", environment, removed[0])
	case len(removed) == 0:
		return fmt.Sprintf("%s: seal %d Secrets\n", environment, len(written))
	default:
		return fmt.Sprintf("%s: seal %d Secrets, remove %d\n", environment, len(written), len(removed))
	}
}
