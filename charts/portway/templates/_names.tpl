{{- define "portway.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "portway.fullname" -}}
{{- $name := include "portway.name" . -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "portway.namespace" -}}
{{ default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* Labels by which pods and their objects are found; they never change. */}}
{{- define "portway.selector" -}}
app.kubernetes.io/name: {{ include "portway.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The same as a label selector in text. */}}
{{- define "portway.selectorText" -}}
app.kubernetes.io/name={{ include "portway.name" .root }},app.kubernetes.io/instance={{ .root.Release.Name }},app.kubernetes.io/component={{ .component }}
{{- end }}

{{- define "portway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{ include "portway.selector" . }}
app.kubernetes.io/part-of: portway
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What every object begins with: name, namespace, labels. */}}
{{- define "portway.meta" -}}
name: {{ .name }}
namespace: {{ include "portway.namespace" .root }}
labels:
  {{- include "portway.labels" . | nindent 2 }}
{{- end }}

{{- define "portway.image" -}}
{{- $image := .Values.controller.image -}}
{{- with default $image.registry .Values.global.image.registry }}{{ . }}/{{ end -}}
{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{- define "portway.operatorAccount" -}}
{{ default (printf "%s-operator" (include "portway.fullname" .)) .Values.serviceAccount.name }}
{{- end }}

{{- define "portway.proxyAccount" -}}
{{ default (printf "%s-proxy" (include "portway.fullname" .)) .Values.proxyServiceAccount.name }}
{{- end }}

{{/* The beginning of names of objects that have no namespace. */}}
{{- define "portway.clusterName" -}}
{{- $name := include "portway.fullname" . -}}
{{ if ne .Release.Namespace $name }}{{ .Release.Namespace }}-{{ end }}{{ $name }}
{{- end }}

{{- define "portway.adminArgs" -}}
{{- $a := .Values.admin -}}
{{- if $a.existingSecret }}
- --admin-token-file=/etc/portway/admin/token
{{- else if $a.protectMetrics }}
{{- fail "admin.protectMetrics needs admin.existingSecret: proxies know no other token." }}
{{- end }}
{{- with $a.hosts }}
- --admin-hosts={{ join "," . }}
{{- end }}
{{- if $a.protectMetrics }}
- --admin-protect-metrics
{{- end }}
{{- if not $a.tokenReview }}
- --no-admin-review
{{- end }}
{{- end }}

{{- define "portway.adminMount" -}}
{{- if .Values.admin.existingSecret }}
- {name: admin, mountPath: /etc/portway/admin, readOnly: true}
{{- end }}
{{- end }}

{{- define "portway.adminVolume" -}}
{{- with .Values.admin.existingSecret }}
- name: admin
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: token, path: token}]
{{- end }}
{{- end }}

{{- define "portway.election" -}}
{{ default (include "portway.fullname" .) .Values.controller.electionID }}
{{- end }}

{{- define "portway.affinitySecret" -}}
{{- $key := .Values.controller.affinityKey -}}
{{- if $key.existingSecret }}{{ $key.existingSecret }}
{{- else if $key.create }}{{ include "portway.fullname" . }}-affinity
{{- end }}
{{- end }}

{{/* The ValidatingWebhookConfiguration. */}}
{{- define "portway.webhookConfiguration" -}}
{{ include "portway.clusterName" . }}
{{- end }}

{{- define "portway.webhookHost" -}}
{{ include "portway.fullname" . }}-admission.{{ include "portway.namespace" . }}.svc
{{- end }}

{{/* Whether the webhook's certificate is in a Secret; otherwise it is the operator's own. */}}
{{- define "portway.webhookMounted" -}}
{{- $webhook := .Values.controller.admissionWebhooks -}}
{{- if and $webhook.enabled (ne $webhook.certificates "operator") }}yes{{ end }}
{{- end }}

{{/* Whether the operator keeps an authority of its own: for proxies that come by the network, or for the webhook. */}}
{{- define "portway.ownAuthority" -}}
{{- $webhook := .Values.controller.admissionWebhooks -}}
{{- if or (not .Values.singlePod) (and $webhook.enabled (eq $webhook.certificates "operator")) }}yes{{ end }}
{{- end }}

{{- define "portway.webhookSecret" -}}
{{- $webhook := .Values.controller.admissionWebhooks -}}
{{- if eq $webhook.certificates "existing" }}{{- if not $webhook.existingSecret }}{{ fail "controller.admissionWebhooks.existingSecret is needed for certificates: existing." }}{{ end }}{{ $webhook.existingSecret }}
{{- else }}{{ include "portway.fullname" . }}-admission
{{- end }}
{{- end }}

{{/* The namespaces that are read, as JSON; an empty list is all. */}}
{{- define "portway.scope" -}}
{{- $scope := .Values.controller.scope -}}
{{- if not $scope.enabled }}[]
{{- else if $scope.namespaces }}{{ $names := $scope.namespaces }}{{ with $scope.namespace }}{{ $names = append $names . }}{{ end }}{{ $names | uniq | toJson }}
{{- else }}{{ list (default (include "portway.namespace" .) $scope.namespace) | toJson }}
{{- end }}
{{- end }}

{{/* Seconds that the kubelet waits for a pod with a proxy. */}}
{{- define "portway.gracePeriod" -}}
{{- $drain := .Values.controller.drain -}}
{{- $needed := add $drain.grace $drain.timeout -}}
{{- $chosen := .Values.controller.terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $chosen }}{{ add $needed 15 }}
{{- else if le (int64 $chosen) $needed }}
{{- fail (printf "controller.terminationGracePeriodSeconds is %v, and a proxy may take controller.drain.grace + controller.drain.timeout = %d seconds to end: make it more, or these less." $chosen $needed) }}
{{- else }}{{ int64 $chosen }}
{{- end }}
{{- end }}

{{- define "portway.replicas" -}}
{{- $c := .Values.controller -}}
{{- if $c.autoscaling.enabled }}{{ $c.autoscaling.minReplicas }}{{ else if $c.keda.enabled }}{{ $c.keda.minReplicas }}{{ else }}{{ $c.replicaCount }}{{ end }}
{{- end }}
