// Package manifest works on whole SealedSecrets: it seals a Secret to one, opens
// the items of one, builds the Secret that one stands for, and seals the items of
// one anew. It is what the controller, the API for kubeseal, the command line and
// the copies in git have in common, so that no two of them read a SealedSecret
// differently.
//
// The kind is that of Sealed Secrets, as is what a SealedSecret means; only the
// envelope of an item may be ours. The scope is read from the SealedSecret's own
// metadata and from nowhere else: the template is not sealed, and believing it
// would let whoever edits it widen the scope.
//
// Everything here is pure. A SealedSecret opens as a whole or not at all, and what
// does not open is named by its key, never by its content.
package manifest
