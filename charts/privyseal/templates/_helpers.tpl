{{/*
The labels of every object. Names are fixed and not made from the release's:
the CRDs allow for one Privyseal in a cluster.
*/}}
{{- define "privyseal.labels" -}}
app.kubernetes.io/name: privyseal
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What selects the pods of one Deployment, given {component}. */}}
{{- define "privyseal.selector" -}}
app.kubernetes.io/name: privyseal
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "privyseal.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/*
What is the same in the pods of both Deployments, given {root, component}. The
pods pass the Pod Security level restricted.
*/}}
{{- define "privyseal.podSpec" -}}
# The service account mounts its token nowhere by itself; these pods need it.
automountServiceAccountToken: true
enableServiceLinks: false
{{- if .root.Values.userNamespaces }}
hostUsers: false
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "privyseal.selector" . | nindent 8 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What is the same in the containers of both Deployments, given {root, resources}. */}}
{{- define "privyseal.container" -}}
image: {{ include "privyseal.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
env:
  - name: POD_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
livenessProbe:
  httpGet: {path: /healthz, port: probes}
  periodSeconds: 10
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: probes}
  periodSeconds: 5
resources: {{- toYaml .resources | nindent 2 }}
{{- end }}

{{/* The namespaces whose pods may ask for secrets: never those that ours depend on. */}}
{{- define "privyseal.enrolled" -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{ list .Release.Namespace "kube-system" "kube-node-lease" | uniq | toJson }}
  {{- with .Values.namespaces }}
  - key: kubernetes.io/metadata.name
    operator: In
    values: {{ sortAlpha . | toJson }}
  {{- end }}
{{- end }}
