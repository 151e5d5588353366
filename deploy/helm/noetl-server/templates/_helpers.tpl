{{- define "noetl-server.name" -}}
{{ .Values.fullnameOverride | default .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "noetl-server.namespace" -}}
{{ .Values.namespace | default .Release.Namespace }}
{{- end }}

{{- define "noetl-server.selector" -}}
app: {{ include "noetl-server.name" . }}
app.kubernetes.io/name: noetl-server
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "noetl-server.labels" -}}
{{ include "noetl-server.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/part-of: noetl
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "noetl-server.metadata" -}}
namespace: {{ include "noetl-server.namespace" . }}
labels:
  {{- include "noetl-server.labels" . | nindent 2 }}
{{- end }}

{{- define "noetl-server.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary (include "noetl-server.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "noetl-server.scheme" -}}
{{ ternary "https" "http" .Values.tls.enabled }}
{{- end }}

{{- define "noetl-server.host" -}}
{{ .Values.service.name }}.{{ include "noetl-server.namespace" . }}.svc.cluster.local
{{- end }}

{{/* Variables that must not stand in a ConfigMap; of those in the second list only addresses with a login. */}}
{{- define "noetl-server.secretVariables" -}}
- DATABASE_URL
- NOETL_SHARDS
- NOETL_CLUSTER_DSN
- POSTGRES_PASSWORD
- NATS_PASSWORD
- NOETL_NATS_PASSWORD
- NOETL_PASSWORD
- NOETL_ENCRYPTION_KEY
- NOETL_ENCRYPTION_KEY_PREVIOUS
- NOETL_INTERNAL_API_TOKEN
- NOETL_K8S_TOKEN
- VAULT_TOKEN
- AWS_SECRET_ACCESS_KEY
- AWS_SESSION_TOKEN
- AZURE_KEYVAULT_TOKEN
- AZURE_CLIENT_SECRET
- OTEL_EXPORTER_OTLP_HEADERS
- OTEL_EXPORTER_OTLP_TRACES_HEADERS
{{- end }}
{{- define "noetl-server.addressVariables" -}}
- NATS_URL
- NOETL_NATS_URL
- HTTP_PROXY
- http_proxy
- HTTPS_PROXY
- https_proxy
- ALL_PROXY
- all_proxy
{{- end }}

{{/* A value as text. Helm reads numbers as floating point, which would print 1048576 as 1.048576e+06. */}}
{{- define "noetl-server.text" -}}
{{ if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{/* All variables given by values, as YAML; what the operator sets wins over what the chart derives. */}}
{{- define "noetl-server.environment" -}}
{{- $given := .Values.config.server }}
{{- $derived := dict
  "NOETL_HOST" "0.0.0.0"
  "NOETL_PORT" "8082"
  "NOETL_PUBLIC_SERVER_URL" (printf "%s://%s:%v" (include "noetl-server.scheme" .) (include "noetl-server.host" .) .Values.service.port)
  "POSTGRES_USER" (get $given "NOETL_USER")
  "POSTGRES_DATABASE" (get $given "NOETL_POSTGRES_DB")
  "POSTGRES_PASSWORD" (.Values.secrets.noetlPassword | default .Values.secrets.postgresPassword)
  "NATS_PASSWORD" .Values.secrets.natsPassword
  "NOETL_ENCRYPTION_KEY" .Values.secrets.encryptionKey
  "NOETL_INTERNAL_API_TOKEN" .Values.secrets.internalApiToken
}}
{{- if gt (int .Values.sharding.count) 1 }}
{{- $_ := set $derived "NOETL_SHARD_COUNT" (.Values.sharding.count | toString) }}
{{- end }}
{{- if .Values.tls.enabled }}
{{- $_ := set $derived "NOETL_TLS_CERT" "/tls/tls.crt" }}
{{- $_ := set $derived "NOETL_TLS_KEY" "/tls/tls.key" }}
{{- if .Values.tls.mtls.enabled }}
{{- $_ := set $derived "NOETL_TLS_CLIENT_CA" "/tls/ca.crt" }}
{{- end }}
{{- end }}
{{- $result := dict }}
{{- range $name, $value := $derived }}
{{- if $value }}{{ $_ := set $result $name (include "noetl-server.text" $value) }}{{ end }}
{{- end }}
{{- range $name, $value := $given }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}{{ $_ := set $result $name (include "noetl-server.text" $value) }}{{ end }}
{{- end }}
{{- toYaml $result }}
{{- end }}

{{/* The secret or the other part of the environment. */}}
{{- define "noetl-server.environmentPart" -}}
{{- $secret := include "noetl-server.secretVariables" . | fromYamlArray }}
{{- $address := include "noetl-server.addressVariables" . | fromYamlArray }}
{{- $result := dict }}
{{- range $name, $value := include "noetl-server.environment" .root | fromYaml }}
{{- $isSecret := or (has $name $secret) (and (has $name $address) (contains "@" $value)) }}
{{- if eq $isSecret $.secret }}{{ $_ := set $result $name $value }}{{ end }}
{{- end }}
{{- toYaml $result }}
{{- end }}

{{- define "noetl-server.plainEnvironment" -}}
{{ include "noetl-server.environmentPart" (dict "root" . "secret" false) }}
{{- end }}

{{- define "noetl-server.secretEnvironment" -}}
{{ include "noetl-server.environmentPart" (dict "root" . "secret" true) }}
{{- end }}

{{/* What cannot work is refused before anything is installed. */}}
{{- define "noetl-server.check" -}}
{{- $replicas := int .Values.server.replicas }}
{{- $shards := int .Values.sharding.count }}
{{- if gt (add (int .Values.server.firstMachineId) $replicas) 1024 }}
{{- fail (printf "server.firstMachineId + server.replicas is %d: machine ids end at 1023" (add (int .Values.server.firstMachineId) $replicas)) }}
{{- end }}
{{- if gt $shards 1 }}
{{- if ne $shards $replicas }}
{{- fail (printf "sharding.count is %d and server.replicas is %d: each replica is one shard, so they must be equal" $shards $replicas) }}
{{- end }}
{{- if ne (int .Values.server.firstMachineId) 0 }}
{{- fail "server.firstMachineId must be 0 when sharding.count is above 1: the ordinal is also the shard index" }}
{{- end }}
{{- end }}
{{- range $name := list "NOETL_SERVER_MACHINE_ID" "NOETL_SHARD_INDEX" "NOETL_SHARD_COUNT" }}
{{- if hasKey $.Values.config.server $name }}
{{- fail (printf "config.server.%s is set by the chart (server.firstMachineId, sharding.count)" $name) }}
{{- end }}
{{- end }}
{{- if and .Values.tls.enabled (dig "certManager" "bootstrap" "enabled" false .Values.tls) }}
{{- fail "tls.certManager.bootstrap is not made by this chart: create the issuer and name it in tls.certManager.issuerRef" }}
{{- end }}
{{- if not .Values.secrets.create }}
{{- range $name, $_ := include "noetl-server.secretEnvironment" . | fromYaml }}
{{- fail (printf "%s has a value although secrets.create is false: put it into a Secret and name that in secrets.refs.%s" $name $name) }}
{{- end }}
{{- end }}
{{- if and .Values.monitoring.serviceMonitor.enabled (eq (toString (get .Values.config.server "NOETL_DISABLE_METRICS")) "true") }}
{{- fail "monitoring.serviceMonitor.enabled needs config.server.NOETL_DISABLE_METRICS to be false" }}
{{- end }}
{{- end }}
