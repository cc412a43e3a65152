{{- define "portway.extraArgs" -}}
{{- range $key, $value := . }}
{{- if kindIs "invalid" $value }}
- --{{ $key }}
{{- else }}
- {{ printf "--%s=%v" $key $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "portway.operatorArgs" -}}
{{- $c := .Values.controller -}}
{{- $name := include "portway.fullname" . -}}
{{- $namespace := include "portway.namespace" . -}}
{{- $component := ternary "proxy" "operator" .Values.singlePod -}}
- operator
- --controller-class={{ $c.ingressClassResource.controllerValue }}
- --ingress-class={{ default $c.ingressClassResource.name $c.ingressClass }}
{{- if $c.ingressClassByName }}
- --ingress-class-by-name
{{- end }}
{{- if $c.watchIngressWithoutClass }}
- --watch-ingress-without-class
{{- end }}
{{- with include "portway.scope" . | fromJsonArray }}
- --watch-namespace={{ join "," . }}
{{- end }}
{{- if not (kindIs "invalid" .Values.rbac.secretNamespaces) }}
- --watch-secrets-namespace={{ join "," .Values.rbac.secretNamespaces }}
{{- end }}
{{- with .Values.rbac.secrets }}
- --watch-secrets={{ join "," . }}
{{- end }}
- --configmap={{ $namespace }}/{{ $name }}
- --tcp-services-configmap={{ $namespace }}/{{ $name }}-tcp
- --udp-services-configmap={{ $namespace }}/{{ $name }}-udp
- --reserved-ports={{ $c.containerPort.http }},{{ $c.containerPort.https }},{{ $c.adminPort }}
{{- with $c.defaultBackendService }}
- --default-backend-service={{ . }}
{{- end }}
{{- with $c.defaultTLSSecret }}
- --default-ssl-certificate={{ . }}
{{- end }}
{{- if include "portway.affinitySecret" . }}
- --affinity-key-file=/etc/portway/affinity/key
{{- end }}
{{- if $c.statusAddresses }}
- --publish-status-address={{ join "," $c.statusAddresses }}
{{- else if and $c.publishService.enabled (or $c.service.enabled $c.publishService.pathOverride) }}
- --publish-service={{ default (printf "%s/%s-proxy" $namespace $name) $c.publishService.pathOverride }}
{{- end }}
{{- if $c.reportNodeInternalIp }}
- --report-node-internal-ip-address
{{- end }}
{{- if and $c.service.enabled $c.service.exposePorts }}
- --expose-service={{ $namespace }}/{{ $name }}-proxy
{{- end }}
- --election-id={{ include "portway.election" . }}
- --election-ttl={{ $c.electionTTL }}
- --operator-selector={{ include "portway.selectorText" (dict "root" . "component" $component) }}
- --proxy-selector={{ include "portway.selectorText" (dict "root" . "component" "proxy") }}
{{- if .Values.singlePod }}
- --stream-socket=/run/portway/cfg.sock
{{- else }}
- "--stream-address={{ .Values.listenAddress }}"
- --stream-port={{ .Values.controlPlane.port }}
- --stream-hosts={{ $name }}-operator.{{ $namespace }}.svc
- --proxy-auth={{ .Values.controlPlane.auth }}
{{- if eq .Values.controlPlane.auth "mtls" }}
- --proxy-certificate-secret={{ $name }}-proxy-certificate
{{- else }}
- --proxy-accounts={{ include "portway.proxyAccount" . }}
{{- end }}
{{- end }}
{{- if include "portway.ownAuthority" . }}
- --authority-secret={{ $name }}-authority
- --authority-config-map={{ $name }}-ca
{{- end }}
- "--health-address={{ .Values.listenAddress }}"
- --health-port={{ .Values.operator.healthPort }}
{{- include "portway.adminArgs" . }}
{{- if $c.admissionWebhooks.enabled }}
- "--validating-webhook={{ if contains ":" .Values.listenAddress }}[{{ .Values.listenAddress }}]{{ else }}{{ .Values.listenAddress }}{{ end }}:{{ $c.admissionWebhooks.port }}"
{{- if include "portway.webhookMounted" . }}
- --validating-webhook-certificate=/etc/portway/webhook/tls.crt
- --validating-webhook-key=/etc/portway/webhook/tls.key
{{- else }}
- --validating-webhook-configuration={{ include "portway.webhookConfiguration" . }}
- --validating-webhook-hosts={{ include "portway.webhookHost" . }}
{{- end }}
{{- end }}
{{- include "portway.extraArgs" .Values.operator.extraArgs }}
{{- end }}

{{- define "portway.proxyArgs" -}}
{{- $c := .Values.controller -}}
{{- $name := include "portway.fullname" . -}}
- proxy
{{- if .Values.singlePod }}
- --operator=unix:///run/portway/cfg.sock
{{- else }}
- --operator=https://{{ $name }}-operator.{{ include "portway.namespace" . }}.svc:{{ .Values.controlPlane.port }}
- --ca-file=/etc/portway/ca/ca.crt
{{- if eq .Values.controlPlane.auth "mtls" }}
- --client-cert=/etc/portway/identity/tls.crt
- --client-key=/etc/portway/identity/tls.key
{{- else }}
- --token-file=/var/run/secrets/portway/token
{{- end }}
{{- end }}
- --state-dir=/run/portway/state
- "--address={{ .Values.listenAddress }}"
- "--admin-address={{ .Values.listenAddress }}"
- --http-port={{ $c.containerPort.http }}
- --https-port={{ $c.containerPort.https }}
- --admin-port={{ $c.adminPort }}
{{- include "portway.adminArgs" . }}
{{- if $c.hostPort.enabled }}
- --public-http-port={{ $c.hostPort.ports.http }}
- --public-https-port={{ $c.hostPort.ports.https }}
{{- else if $c.service.enabled }}
- --public-http-port={{ $c.service.ports.http }}
- --public-https-port={{ $c.service.ports.https }}
{{- end }}
{{- with $c.workers }}
- --workers={{ . }}
{{- end }}
- --drain-grace={{ $c.drain.grace }}
- --drain-timeout={{ $c.drain.timeout }}
{{- include "portway.extraArgs" $c.extraArgs }}
{{- end }}

{{/* The variables that say whose pod it is. Names of their own, without Kubernetes' variables for Services. */}}
{{- define "portway.podEnv" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end }}

{{- define "portway.operatorContainer" -}}
name: operator
image: {{ include "portway.image" . }}
imagePullPolicy: {{ .Values.controller.image.pullPolicy }}
args:
{{ include "portway.operatorArgs" . }}
env:
{{ include "portway.podEnv" . }}
{{- with .Values.operator.extraEnvs }}
{{ toYaml . }}
{{- end }}
ports:
{{- if not .Values.singlePod }}
- {name: config, containerPort: {{ .Values.controlPlane.port }}, protocol: TCP}
{{- end }}
- {name: health, containerPort: {{ .Values.operator.healthPort }}, protocol: TCP}
{{- if .Values.controller.admissionWebhooks.enabled }}
- {name: webhook, containerPort: {{ .Values.controller.admissionWebhooks.port }}, protocol: TCP}
{{- end }}
startupProbe:
  {{- toYaml .Values.operator.startupProbe | nindent 2 }}
livenessProbe:
  {{- toYaml .Values.operator.livenessProbe | nindent 2 }}
readinessProbe:
  {{- toYaml .Values.operator.readinessProbe | nindent 2 }}
securityContext:
  {{- toYaml .Values.controller.containerSecurityContext | nindent 2 }}
resources:
  {{- toYaml .Values.operator.resources | nindent 2 }}
volumeMounts:
- {name: kubernetes, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- if include "portway.affinitySecret" . }}
- {name: affinity, mountPath: /etc/portway/affinity, readOnly: true}
{{- end }}
{{- if include "portway.webhookMounted" . }}
- {name: webhook, mountPath: /etc/portway/webhook, readOnly: true}
{{- end }}
{{- if .Values.singlePod }}
- {name: run, mountPath: /run/portway}
{{- end }}
{{- include "portway.adminMount" . }}
{{- with .Values.operator.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The operator's token is mounted into its own container alone: a proxy in the same pod does not see it. */}}
{{- define "portway.operatorVolumes" -}}
- name: kubernetes
  projected:
    defaultMode: 0440
    sources:
    - serviceAccountToken: {path: token, expirationSeconds: 3600}
    - configMap:
        name: kube-root-ca.crt
        items: [{key: ca.crt, path: ca.crt}]
    - downwardAPI:
        items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- with include "portway.affinitySecret" . }}
- name: affinity
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- if include "portway.webhookMounted" . }}
- name: webhook
  secret: {secretName: {{ include "portway.webhookSecret" . }}, defaultMode: 0440}
{{- end }}
{{- include "portway.adminVolume" . }}
{{- with .Values.operator.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "portway.proxyContainer" -}}
{{- $c := .Values.controller -}}
name: proxy
image: {{ include "portway.image" . }}
imagePullPolicy: {{ $c.image.pullPolicy }}
args:
{{ include "portway.proxyArgs" . }}
env:
{{ include "portway.podEnv" . }}
- name: PORTWAY_NODE
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: PORTWAY_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: PORTWAY_ZONE
{{- if $c.zone }}
  value: {{ $c.zone | quote }}
{{- else }}
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}}
{{- end }}
{{- with $c.extraEnvs }}
{{ toYaml . }}
{{- end }}
ports:
- name: http
  containerPort: {{ $c.containerPort.http }}
  protocol: TCP
  {{- if $c.hostPort.enabled }}
  hostPort: {{ $c.hostPort.ports.http }}
  {{- end }}
- name: https
  containerPort: {{ $c.containerPort.https }}
  protocol: TCP
  {{- if $c.hostPort.enabled }}
  hostPort: {{ $c.hostPort.ports.https }}
  {{- end }}
- {name: admin, containerPort: {{ $c.adminPort }}, protocol: TCP}
{{- if $c.hostPort.enabled }}
{{- range $transport, $ports := dict "tcp" (concat (keys .Values.tcp) $c.hostPort.tcp) "udp" (concat (keys .Values.udp) $c.hostPort.udp) }}
{{- range $port := $ports | toStrings | uniq | sortAlpha }}
{{- if and (lt (int $port) 1024) }}
{{- fail (printf "%s.%s: a proxy without privileges cannot open ports below 1024 on its node; with controller.hostPort.enabled choose one above." $transport $port) }}
{{- end }}
- {name: {{ $transport }}-{{ $port }}, containerPort: {{ $port }}, hostPort: {{ $port }}, protocol: {{ upper $transport }}}
{{- end }}
{{- end }}
{{- end }}
startupProbe:
  {{- toYaml $c.startupProbe | nindent 2 }}
livenessProbe:
  {{- toYaml $c.livenessProbe | nindent 2 }}
readinessProbe:
  {{- toYaml $c.readinessProbe | nindent 2 }}
{{- with $c.lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $c.containerSecurityContext | nindent 2 }}
resources:
  {{- toYaml $c.resources | nindent 2 }}
volumeMounts:
- {name: run, mountPath: /run/portway}
{{- if not .Values.singlePod }}
- {name: ca, mountPath: /etc/portway/ca, readOnly: true}
{{- if eq .Values.controlPlane.auth "mtls" }}
- {name: identity, mountPath: /etc/portway/identity, readOnly: true}
{{- else }}
- {name: token, mountPath: /var/run/secrets/portway, readOnly: true}
{{- end }}
{{- end }}
{{- include "portway.adminMount" . }}
{{- with $c.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What the operator writes is asked for by its keys: a pod waits for it, and never starts with nothing. */}}
{{- define "portway.proxyVolumes" -}}
{{- $name := include "portway.fullname" . -}}
- name: run
  emptyDir: {medium: Memory, sizeLimit: 128Mi}
{{- if not .Values.singlePod }}
- name: ca
  configMap:
    name: {{ $name }}-ca
    items: [{key: ca.crt, path: ca.crt}]
{{- if eq .Values.controlPlane.auth "mtls" }}
- name: identity
  secret:
    secretName: {{ $name }}-proxy-certificate
    defaultMode: 0440
    items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
{{- else }}
- name: token
  projected:
    defaultMode: 0440
    sources:
    - serviceAccountToken: {path: token, audience: portway-config, expirationSeconds: {{ .Values.controlPlane.tokenSeconds }}}
{{- end }}
{{- end }}
{{- if not .Values.singlePod }}
{{- include "portway.adminVolume" . }}
{{- end }}
{{- with .Values.controller.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Where pods go. `at` are the values of one half, `component` is which. */}}
{{- define "portway.placement" -}}
{{- with .at.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .at.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .at.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .at.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- $selector := dict "matchLabels" (include "portway.selector" . | fromYaml) -}}
{{- with .at.topologySpreadConstraints }}
topologySpreadConstraints:
{{- range . }}
{{ list (merge (dict) . (dict "labelSelector" $selector)) | toYaml }}
{{- end }}
{{- end }}
{{- end }}

{{- define "portway.podSecurity" -}}
{{- $context := deepCopy .Values.controller.podSecurityContext -}}
{{- with .Values.controller.sysctls }}
{{- $list := list }}
{{- range $name, $value := . }}{{ $list = append $list (dict "name" $name "value" $value) }}{{ end }}
{{- $_ := set $context "sysctls" $list }}
{{- end }}
{{- toYaml $context }}
{{- end }}
