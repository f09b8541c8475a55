#!/usr/bin/env bash
# Runs every linter and says at the end which of them found something. The
# first argument is the folder with the linters.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=$1
here=$PWD
found=()

# look NAME COMMAND... runs one linter.
look() {
	local name=$1
	shift
	"$@" || found+=("$name")
}

# inside MODULE COMMAND... runs a command in the folder of a module.
inside() (
	cd "$1" || exit
	shift
	"$@"
)

unformatted() {
	local files
	files=$(git ls-files -z --cached --others --exclude-standard -- '*.go' | xargs -0 gofmt -l 2>&1)
	[ -z "$files" ] || { echo "$files"; return 1; }
}

look gofmt unformatted
look revive "$bin/revive" -config tools/revive.toml -formatter unix -set_exit_status ./...

# Not the modules of the lab's servers: a short main of ours each, behind which
# these would read all of Kubernetes and Vault.
for module in . lab tools; do
	look "vet in $module" go -C "$module" vet ./...
	look "errcheck in $module" inside "$module" "$bin/errcheck" -exclude "$here/tools/errcheck.txt" ./...
	look "go-errorlint in $module" inside "$module" "$bin/go-errorlint" ./...
	look "staticcheck in $module" inside "$module" "$bin/staticcheck" ./...
done

if [ ${#found[@]} -gt 0 ]; then
	printf 'found something: %s\n' "${found[@]}" >&2
	exit 1
fi
