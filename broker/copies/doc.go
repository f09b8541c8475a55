// Package copies keeps sealed copies of claims' targets in git, for the day on
// which the store is gone and the cluster with it.
//
// It is one loop an environment, and level-triggered: gather what copies are
// wanted, look at what the repository has, and commit the difference, all of it
// at once. Whether a copy is current is told by what it says of itself (head),
// since nothing that is sealed can be compared, and a keyed digest of a value
// has no business in git: it names the claim and the target's sequence, and its
// items name the keys that they are sealed to. Nothing is remembered that would
// be missed: a daemon that dies between any two steps finds the same difference
// again, or none.
//
// What somebody else put into the repository stays, also where a copy should
// lie. A copy is taken for ours if this installation's own key is among those
// that it names, or if it was made for this very Environment object; only the
// latter are ever removed, so that a cluster that comes back from git does not
// begin by taking away what it comes back from.
//
// What becomes of a claim's copy is told by the claim's controller, which
// writes its status: see Keeper.Sealed.
package copies
