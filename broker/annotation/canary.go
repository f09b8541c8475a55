package annotation

// Canary on a workload, with "true", has it go first of those that read the same
// Secret, where its environment has one go first. Like RestartNow it is none of
// a pod template's.
const Canary = Prefix + "canary"
