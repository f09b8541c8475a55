#!/usr/bin/env bash
# The way of a secret, on the lab: a real Kubernetes with a real Vault.
# Run it with: make demo
set -euo pipefail
cd "$(dirname "$0")/.."

while IFS='=' read -r name value; do declare "$name=$value"; done <.lab/env
case $LAB_MODE in
control-plane)
	echo "the demo shows running pods, and LAB=control-plane has no node to run them; run it as root without LAB"
	exit 1
	;;
external)
	# It starts from nothing, so it removes what an earlier demo left.
	echo "the demo makes namespaces payments and privyseal-system as it likes, which is for a lab and not for a cluster"
	echo "of your own; the README's five-minute guide shows the same there, and make test runs there"
	exit 1
	;;
esac
export KUBECONFIG=$LAB_KUBECONFIG
began=$SECONDS

bold=$'\e[1m' dim=$'\e[2m' off=$'\e[0m'
[[ -t 1 ]] || bold='' dim='' off=''
chapter() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
say() { printf '%s\n' "$*"; }
show() { printf '%s  $ %s%s\n' "$dim" "$*" "$off"; }
indent() { sed 's/^/    /'; }
kubectl() { "$LAB_KUBECTL" "$@"; }
run() {
	show "$*"
	"$@" | indent
}
vault_write() { "$LAB_BIN" vault write "$@" >/dev/null; }

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || give_up "$what"
		sleep 0.2
	done
}
give_up() {
	say "this did not come about: $1"
	kubectl get pods,secretclaims,sealedsecrets,secretrotations -n payments | indent
	kubectl get events -n payments | tail -20 | indent
	kubectl logs -n privyseal-system deployment/privyseal --tail=20 | indent
	exit 1
}
rolled_out() {
	kubectl rollout status deployment/checkout -n payments --timeout=90s >/dev/null ||
		give_up "a ready pod of checkout"
	wait_for 30 "the old pod is gone" one_pod
}
pods() { kubectl get pods -n payments -l app="$1" -o name; }
one_pod() { [[ $(pods checkout | wc -l) == 1 ]]; }
template_of() { kubectl get deployment/checkout -n payments -o "jsonpath={.metadata.generation}"; }
template_changed() { [[ $(template_of) != "$before" ]]; }
templates_had() { kubectl get replicasets -n payments -l app="$1" -o name | wc -l; }

chapter "1. The daemon"
say "Privyseal goes in by its chart, as on any cluster. It is told where Vault is,"
say "and that namespaces labelled prod may read kv/prod/<their own name>/ there."
kubectl get namespace privyseal-system >/dev/null 2>&1 || kubectl create namespace privyseal-system >/dev/null
kubectl create configmap vault-ca -n privyseal-system --from-file=ca.crt="$VAULT_CACERT" --dry-run=client -o yaml |
	kubectl apply -f - >/dev/null
build=$(sha256sum bin/privyseal | cut -c1-16) # a new build under the old tag gives new pods
show "helm upgrade --install privyseal charts/privyseal -n privyseal-system"
bin/helm upgrade --install privyseal charts/privyseal -n privyseal-system --wait --timeout 3m \
	--set image.tag=dev --set image.pullPolicy=Never --set-string podAnnotations.build="$build" \
	--set 'serve.extraArgs={--refresh-interval=5s}' >/dev/null ||
	give_up "a running daemon"
kubectl get pods -n privyseal-system | indent
# Of an earlier demo.
kubectl delete deployment,secretrotation --all -n payments --wait --cascade=foreground >/dev/null 2>&1 || :
run kubectl apply -f examples/annotated-app/platform.yaml

chapter "2. A secret in Vault, and an application that asks for it"
vault_write sys/policies/acl/privyseal-payments \
	'{"policy": "path \"kv/data/prod/payments/*\" {capabilities = [\"read\"]}"}'
vault_write auth/kubernetes/role/privyseal-payments \
	'{"bound_service_account_names": "privyseal", "bound_service_account_namespaces": "payments",
	  "audience": "https://vault.vault.svc:8200", "policies": "privyseal-payments", "ttl": "10m"}'
show "vault kv put kv/prod/payments/db username=pay password=correct-horse"
vault_write kv/data/prod/payments/db '{"data": {"username": "pay", "password": "correct-horse"}}'
say "The application says what it needs in annotations on its pods, and nothing else:"
grep 'privyseal.io/.*db' examples/annotated-app/app.yaml | sed 's/^ */    /'
run kubectl apply -f examples/annotated-app/app.yaml
rolled_out
kubectl rollout status deployment/website -n payments --timeout=60s >/dev/null
say "Its pod waited until the Secret was there, and started with it:"
run kubectl logs -n payments deployment/checkout
run kubectl get secretclaims,secrets -n payments
old_pod=$(pods checkout) neighbour=$(pods website) before=$(template_of)

chapter "3. The value changes in Vault"
show "vault kv put kv/prod/payments/db username=pay password=battery-staple"
vault_write kv/data/prod/payments/db '{"data": {"username": "pay", "password": "battery-staple"}}'
changed=$SECONDS
wait_for 60 "a restart of checkout" template_changed
rolled_out
say "$((SECONDS - changed)) seconds later a new pod runs, with the new value in its environment and its files:"
run kubectl logs -n payments deployment/checkout
show "kubectl exec -n payments deployment/checkout -- cat /etc/secrets/db/password"
inside=$(kubectl exec -n payments deployment/checkout -- cat /etc/secrets/db/password)
say "    $inside"
[[ $inside == battery-staple ]] || give_up "the new value inside the pod"

chapter "4. Exactly the pods that held the old value, exactly once"
say "checkout   $old_pod  ->  $(pods checkout)"
say "           $(($(templates_had checkout) - 1)) rollout for 1 change"
say "website    $(pods website)  (does not read the secret, so it was left alone)"
run kubectl get secretclaims -n payments
[[ $(pods website) == "$neighbour" ]] || give_up "website left alone"

chapter "5. Sealed, a secret can lie in git"
say "Anybody can seal a secret; the cluster alone opens it. kubeseal works as well."
plain='{apiVersion: v1, kind: Secret, metadata: {name: mail, namespace: payments}, stringData: {token: let-me-in}}'
sealed=.lab/mail.yaml
rm -f "$sealed"
show "privyseal seal -f mail-secret.yaml -w mail.yaml"
wait_for 60 "a sealing key" bin/privyseal cert --controller-namespace privyseal-system
bin/privyseal seal --controller-namespace privyseal-system -w "$sealed" <<<"$plain" ||
	give_up "a sealed secret"
grep -A2 encryptedData "$sealed" | cut -c1-72 | indent
run kubectl apply -f "$sealed"
wait_for 30 "the Secret of the SealedSecret" kubectl get secret mail -n payments
opened=$(kubectl get secret mail -n payments -o 'jsonpath={.data.token}' | base64 -d)
say "The cluster made a Secret of it: token is $opened"
[[ $opened == let-me-in ]] || give_up "what was sealed"

chapter "6. A sealed copy of what came from Vault"
say "The environment may keep sealed copies in a git repository, from which a cluster comes"
say "back when Vault is gone:"
repository=$PWD/.lab/demo-git
rm -rf "$repository"
"$LAB_BIN" git "$repository" >/dev/null 2>&1 &
git_server=$!
trap 'kill $git_server 2>/dev/null || :' EXIT
wait_for 10 "a git server" test -e "$repository/env"
while IFS='=' read -r name value; do declare "$name=$value"; done <"$repository/env"
kubectl create secret generic git-credentials -n privyseal-system --from-literal=username="$GIT_USERNAME" \
	--from-literal=password="$GIT_PASSWORD" --from-file=ca.crt="$GIT_CA_FILE" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
sealing="{\"copies\": \"Always\", \"git\": {\"url\": \"$GIT_URL/secrets.git\", \"credentialsRef\": {\"name\": \"git-credentials\"}}}"
show "kubectl patch environment prod --type=merge -p '{\"spec\": {\"sealing\": $sealing}}'"
kubectl patch environment prod --type=merge -p "{\"spec\": {\"sealing\": $sealing}}" >/dev/null
copied() { git -C "$repository/secrets.git" cat-file -e main:"prod/payments/$target.yaml"; }
target=$(kubectl get secretclaims -n payments -o 'jsonpath={.items[0].status.target.name}')
wait_for 60 "a sealed copy in git" copied
show "git log --stat -1"
git -C "$repository/secrets.git" log --stat -1 --format=%s main | indent
git -C "$repository/secrets.git" show "main:prod/payments/$target.yaml" | grep -A2 encryptedData | cut -c1-72 | indent
kubectl patch environment prod --type=merge -p '{"spec": {"sealing": null}}' >/dev/null

chapter "7. A new password, by a rotation"
say "A rotation makes a password, writes it to Vault, and follows it to the pods. Were they"
say "not ready with it, the one before would come back:"
vault_write sys/policies/acl/privyseal-payments \
	'{"policy": "path \"kv/data/prod/payments/*\" {capabilities = [\"create\", \"update\", \"read\"]}"}'
old_pod=$(pods checkout) before=$(template_of)
run kubectl apply -f examples/annotated-app/rotation.yaml
show "privyseal rotate db-password -n payments --wait"
bin/privyseal rotate db-password -n payments --wait >.lab/rotate.log 2>&1 || {
	indent <.lab/rotate.log
	give_up "a rotation that went well"
}
indent <.lab/rotate.log
rolled_out
run kubectl get secretrotations -n payments
show "kubectl exec -n payments deployment/checkout -- cat /etc/secrets/db/password"
inside=$(kubectl exec -n payments deployment/checkout -- cat /etc/secrets/db/password)
say "    $inside"
[[ ${#inside} == 24 ]] || give_up "the new password inside the pod"
say "checkout   $old_pod  ->  $(pods checkout)"
[[ $(pods website) == "$neighbour" ]] || give_up "website left alone"

chapter "Done, in $((SECONDS - began)) seconds."
say "The lab still runs. Look around with:"
say "    export KUBECONFIG=$LAB_KUBECONFIG"
say "    kubectl describe secretclaims -n payments"
say "and end it with: make demo-down"
