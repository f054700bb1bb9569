{{/* The environment of a service's container: (dict "root" $ "service" … "config" …). */}}
{{- define "adaserve.environment" -}}
{{- $engine := has .service (list "drafter" "verifier") -}}
- {name: ADASERVE_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: ADASERVE_CELL, value: {{ .root.Values.cell | quote }}}
- {name: ADASERVE_HTTP_HOST, value: 0.0.0.0}
- {name: ADASERVE_HTTP_PORT, value: {{ include "adaserve.port" . | quote }}}
- {name: ADASERVE_LOG_LEVEL, value: {{ .config.logLevel }}}
{{- if has .service (list "gateway" "verifier") }}
- {name: ADASERVE_DRAIN_S, value: {{ .config.drainSeconds | quote }}}
{{- end }}
{{- include "adaserve.redisEnvironment" . }}
{{- include "adaserve.modelEnvironment" . }}
{{- if $engine }}
- {name: ADASERVE_DEVICE, value: {{ .config.engine.device | quote }}}
- {name: ADASERVE_DTYPE, value: {{ .config.engine.dtype }}}
- {name: ADASERVE_KV_MEMORY_MB, value: {{ .config.engine.kvMemoryMb | int | quote }}}
- {name: ADASERVE_THREADS, value: {{ .config.engine.threads | int | quote }}}
- {name: OMP_NUM_THREADS, value: {{ .config.engine.threads | int | quote }}}
{{- end }}
{{- if eq .service "gateway" }}
- {name: ADASERVE_ADMIN_KEY_FILE, value: /run/secrets/adaserve/auth/admin-key}
{{- if .root.Values.keys.existingSecret }}
- {name: ADASERVE_KEYS_FILE, value: /run/secrets/adaserve/keys/keys.yaml}
{{- end }}
{{- if include "adaserve.policyConfigMap" .root }}
- {name: ADASERVE_POLICY_FILE, value: /etc/adaserve/policy/policy.yaml}
{{- end }}
{{- end }}
{{- if and (eq .service "verifier") .config.podDeletionCost.enabled }}
- {name: ADASERVE_POD_DELETION_COST, value: "true"}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
{{- end }}
- {name: HOME, value: /tmp}
{{- include "adaserve.tracingEnvironment" .root }}
{{- range $name, $value := .config.env }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- with .config.extraEnvVars }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "adaserve.redisUrl" -}}
{{- if .Values.redis.enabled -}}
redis://{{ include "adaserve.fullname" . }}-redis:6379/0
{{- else -}}
{{ .Values.externalRedis.url }}
{{- end -}}
{{- end }}

{{/* The Secret with a password for each user; empty where Redis asks for none. */}}
{{- define "adaserve.redisSecret" -}}
{{- if .Values.redis.enabled -}}
{{ .Values.redis.auth.existingSecret | default (printf "%s-redis-auth" (include "adaserve.fullname" .)) }}
{{- else -}}
{{ .Values.externalRedis.existingSecret }}
{{- end -}}
{{- end }}

{{- define "adaserve.redisEnvironment" }}
- {name: REDIS_URL, value: {{ include "adaserve.redisUrl" .root | quote }}}
{{- if include "adaserve.redisSecret" .root }}
- {name: ADASERVE_REDIS_USERNAME, value: {{ .service }}}
- {name: ADASERVE_REDIS_PASSWORD_FILE, value: /run/secrets/adaserve/redis/password}
{{- end }}
{{- if and (not .root.Values.redis.enabled) .root.Values.externalRedis.tls.caSecret }}
- {name: ADASERVE_REDIS_CA_FILE, value: /run/secrets/adaserve/redis-ca/ca.crt}
{{- end }}
{{- end }}

{{- define "adaserve.policyConfigMap" -}}
{{- if .Values.policy.existingConfigMap -}}
{{ .Values.policy.existingConfigMap }}
{{- else if .Values.policy.inline -}}
{{ include "adaserve.fullname" . }}-policy
{{- end -}}
{{- end }}

{{- define "adaserve.tracingEndpoint" -}}
{{- $port := ternary "4317" "4318" (eq .Values.tracing.protocol "grpc") -}}
{{- if .Values.tracing.endpoint -}}
{{ .Values.tracing.endpoint }}
{{- else if .Values.tracing.collector.enabled -}}
http://{{ include "adaserve.fullname" . }}-collector:{{ $port }}
{{- else if .Values.tracing.jaeger.enabled -}}
http://{{ include "adaserve.fullname" . }}-jaeger:{{ $port }}
{{- end -}}
{{- end }}

{{- define "adaserve.tracingEnvironment" }}
{{- with include "adaserve.tracingEndpoint" . }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
- {name: OTEL_EXPORTER_OTLP_PROTOCOL, value: {{ $.Values.tracing.protocol }}}
- {name: OTEL_METRICS_EXPORTER, value: none}
{{- end }}
{{- end }}
