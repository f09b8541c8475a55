# Everything here works on a fresh clone with Go, make, git and gcc; the first
# lab builds its servers, which takes minutes once.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The programs of others that tools/go.mod pins, built once and shared by all
# clones until a version of theirs or of Go changes.
key := $(shell { go version; cat tools/go.mod tools/go.sum; } 2>/dev/null | sha256sum | cut -c1-16)
tools := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/privyseal-tools/$(key)

# Programs are built without debug information, which their linking would drop
# anyway, and without the place that they were built in: so all of them share
# what they have in common, and a cold build is a quarter shorter.
lean := -trimpath -gcflags=all=-dwarf=false

# Nothing may meet the cluster or the Vault that its user happens to be logged
# in to. Only LAB=external takes what it is given.
ifneq ($(LAB),external)
unexport VAULT_ADDR VAULT_TOKEN VAULT_NAMESPACE VAULT_CACERT VAULT_CLIENT_CERT VAULT_CLIENT_KEY VAULT_SKIP_VERIFY
endif
unexport KUBECONFIG KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT HELM_NAMESPACE HELM_KUBECONTEXT

# A quarter of the compiler's time would be its own garbage collection.
roomy := GOGC=400 GOMEMLIMIT=2GiB

# A build on a fresh machine takes minutes: with -v, go names each package that
# it compiles, and this counts them. What it says else is passed on.
counted = 2>&1 | awk '/^[a-z][^ :]*( \[[^ ]*\])?$$/ {if (++n % 100 == 0) {print "  " n " packages built"; fflush()}; next} {print; fflush()}'

image := privyseal/privyseal:dev
authorities := $(wildcard /etc/ssl/certs/ca-certificates.crt)

.PHONY: help
help: ## Show what there is to do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## The lab ##

# Only a lab of ours has a node to give the image to. LAB=control-plane runs the
# program itself, and its tests that need pods skip and say so.
program := $(if $(filter node,$(or $(LAB),node)),image,lab build)

.PHONY: demo
demo: $(program) bin/helm ## Show the way of a secret on a real Kubernetes with a real Vault
	@./examples/demo.sh

.PHONY: demo-down
demo-down: lab-down ## End the demo

.PHONY: lab
lab: check ## Start a lab, or find the one that runs
	@bin/lab up

.PHONY: lab-down
lab-down: bin/lab ## End the lab; its state stays for the next one
	@bin/lab down

.PHONY: lab-clean
lab-clean: bin/lab ## End the lab and remove its state
	@bin/lab clean

.PHONY: check
check: go bin/lab
	@bin/lab check

.PHONY: go
go:
	@[ "$$(uname -sm)" = "Linux x86_64" ] || { echo "this is $$(uname -sm): the lab needs Linux on x86-64" >&2; exit 1; }
	@command -v go >/dev/null || { echo "go is missing: install $$(sed -n 's/^go /Go /p' go.mod) or newer, from go.dev" >&2; exit 1; }

## Tests ##

# Packages whose tests use the lab share it, so they run one by one. They wait for
# pods most of the time, so the others run beside them, which start API servers of
# their own, at most. Tests that say so run four at a time, since they wait too.
labTests = $(shell go list $$(grep -rl --include='*_test.go' 'brokertest\.NewLab\b' broker providers cmd | xargs -n1 dirname | sort -u | sed 's|^|./|'))
# Two go commands at the same time would each compile what is not compiled yet.
# What does not compile they tell of.
compiled = $(roomy) go list -v -f '' -race -export -test -deps ./... $(counted)
race := go test -json -race -count=1 -timeout 25m -parallel 4
# Some take as long as many others, and so have a time limit of their own.
longest := Test(TheDaemonMayDieAtAny(Request|StepOfARotation)|ARotationOutlivesWhatItNeeds|AServiceLogsInWithLeasedCredentialsThroughReissuesAndDeaths)

.PHONY: test
test: $(program) bin/helm bin/testsum bin/privyseal-crashtest bin/kubeseal bin/sealed-secrets-controller ## Run all tests, on a lab where they need one
	@$(compiled) || :
	@bin/testsum \
		-- $(race) $(filter-out $(labTests),$(shell go list ./...)) \
		-- $(race) -tags crashtest -run Crash ./cmd/privyseal \
		-- env CGO_ENABLED=0 go -C lab test $(lean) -json -count=1 ./... \
		-- env CGO_ENABLED=0 go -C tools test $(lean) -json -count=1 ./... \
		$(if $(strip $(labTests)),--beside -- $(race) -p 1 -skip '^$(longest)$$' $(sort $(labTests)) -- $(race) -run '^$(longest)$$' ./broker)

.PHONY: test-long
test-long: $(program) bin/helm bin/privyseal-crashtest ## Run the tests that take long: the daemon and a lab, killed at every stage
	@PRIVYSEAL_TEST_CRASHES=all go test -race -count=1 -timeout 100m -v -run 'TestTheDaemonMayDie|ThroughReissuesAndDeaths|InRotations|ThroughRotations' ./broker
	@LAB_TEST=1 go -C lab test -race -count=1 -timeout 25m -v -run TestALab .

# A count and not a time: at the end of a timed run Go can report its own
# deadline as a finding (golang/go#75804).
fuzzRuns := 5000x
# Of what opens items with RSA, which takes a quarter of a second when Go watches
# it at every branch.
slowFuzzRuns := 25x

.PHONY: fuzz
fuzz: ## Fuzz every parser for a few seconds
	@list=$$(go test -list '^Fuzz' ./...); \
	awk '/^Fuzz/ {names[++n] = $$1} /^ok/ {for (i = 1; i <= n; i++) print $$2, names[i]; n = 0}' <<<"$$list" | \
	while read -r package name; do \
		echo "fuzz  $$package.$$name"; \
		runs=$(fuzzRuns); [ "$$name" != FuzzBodies ] || runs=$(slowFuzzRuns); \
		go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $$runs "$$package" </dev/null; \
	done

## The bench ##

.PHONY: bench
bench: build go bin/lab bin/helm bin/bench bin/kwok bin/kubeseal bin/sealed-secrets-controller ## Measure speed and size beside the limits of this machine (some 12 minutes)
	@LAB=control-plane bin/lab check
	@LAB=control-plane bin/lab build
	@bin/bench $(BENCH)

## Checks ##

.PHONY: lint
lint: $(addprefix $(tools)/,errcheck go-errorlint revive staticcheck) ## Look for what reviewers would
	@tools/lint.sh $(tools)

.PHONY: chart-check
chart-check: $(tools)/helm ## Check the chart: what it renders, what it allows, what it refuses
	@$(tools)/helm lint --strict --quiet charts/privyseal
	@CGO_ENABLED=0 go -C tools test $(lean) -count=1 ./chart

## Generated files ##

definitions := bin/definitions
generated := broker/v1alpha1/zz_generated.deepcopy.go charts/privyseal/templates/crds charts/privyseal/README.md

.PHONY: generate
generate: $(tools)/controller-gen ## Write the generated files: deepcopy, CRDs, the table of values
	@rm -rf $(definitions)
	@$(tools)/controller-gen object crd paths=./broker/v1alpha1 output:crd:dir=$(definitions)
	@$(tools)/controller-gen crd:generateEmbeddedObjectMeta=true paths=github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1 output:crd:dir=$(definitions)
	@CGO_ENABLED=0 go -C tools run $(lean) ./crds -from $(CURDIR)/$(definitions) -to $(CURDIR)/charts/privyseal/templates/crds
	@CGO_ENABLED=0 go -C tools run $(lean) ./values -values $(CURDIR)/charts/privyseal/values.yaml -readme $(CURDIR)/charts/privyseal/README.md

.PHONY: generate-check
generate-check: generate ## Prove that the generated files are current
	@git --no-pager diff --exit-code -- $(generated)
	@new=$$(git ls-files --others --exclude-standard -- $(generated)); \
	[ -z "$$new" ] || { echo "generated, and not in git: $$new" >&2; exit 1; }

## Programs ##

.PHONY: build
build: go ## Build bin/privyseal
	@[ -e bin/privyseal ] || echo "building bin/privyseal"
	@CGO_ENABLED=0 $(roomy) go build -v $(lean) -ldflags "-s -w" -o bin/privyseal ./cmd/privyseal $(counted)

.PHONY: image
image: check build lab ## Make the image of bin/privyseal and give it to the lab's node
	@bin/lab image $(image) --entrypoint /privyseal --user 65532:65532 \
		bin/privyseal=/privyseal $(foreach file,$(authorities),$(file)=$(file))

# The Go tool knows better than make whether these are current.
.PHONY: bin/lab bin/testsum bin/helm bin/bench bin/kwok bin/kubeseal bin/sealed-secrets-controller bin/privyseal-crashtest
bin/lab: go
	@go -C lab build -o $(CURDIR)/$@ .
bin/testsum:
	@CGO_ENABLED=0 go -C tools build $(lean) -o $(CURDIR)/$@ ./testsum
bin/bench:
	@CGO_ENABLED=0 go -C tools build $(lean) -o $(CURDIR)/$@ ./bench
bin/kwok:
	@CGO_ENABLED=0 go -C tools/kwok build $(lean) -ldflags "-s -w" -o $(CURDIR)/$@ sigs.k8s.io/kwok/cmd/kwok
# Sealed Secrets' own programs, with the modules that its makers chose.
bin/kubeseal bin/sealed-secrets-controller: bin/%:
	@CGO_ENABLED=0 $(roomy) go -C tools/sealedsecrets build $(lean) -ldflags "-s -w" -o $(CURDIR)/$@ \
		github.com/bitnami-labs/sealed-secrets/cmd/$(patsubst sealed-secrets-%,%,$*)
# The daemon, for tests: it dies where it is told to.
bin/privyseal-crashtest:
	@CGO_ENABLED=0 go build $(lean) -ldflags "-s -w" -tags crashtest -o $@ ./cmd/privyseal
bin/helm: $(tools)/helm
	@mkdir -p bin && ln -sf $< $@

# Helm cannot know by itself for which Kubernetes it renders.
helmVersion = $(shell sed -n 's|^\thelm.sh/helm/v3 \(v[^ ]*\).*|\1|p' tools/go.mod)
kubeMinor = $(shell sed -n 's|^\tk8s.io/client-go v0.\([0-9]*\).*|\1|p' tools/go.mod)
$(tools)/helm: flags = $(foreach at,chartutil lint/rules,\
	-X helm.sh/helm/v3/pkg/$(at).k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/$(at).k8sVersionMinor=$(kubeMinor)) \
	-X helm.sh/helm/v3/internal/version.version=$(helmVersion)
$(tools)/%:
	@echo "building $* into $(@D)"
	@program=$$(go -C tools list tool | grep "/$*$$"); \
	mkdir -p $(@D) && CGO_ENABLED=0 $(roomy) go -C tools build -v $(lean) -ldflags "-s -w $(flags)" -o $@.$$$$ "$$program" $(counted) && mv $@.$$$$ $@
