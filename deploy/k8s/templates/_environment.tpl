{{/* The environment of a service's container: (dict "root" $ "service" … "config" …). */}}
{{- define "adaserve.environment" -}}
- {name: ADASERVE_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: ADASERVE_CELL, value: {{ .root.Values.cell | quote }}}
- {name: ADASERVE_HTTP_HOST, value: "0.0.0.0"}
- {name: ADASERVE_HTTP_PORT, value: {{ include "adaserve.port" . | quote }}}
- {name: ADASERVE_LOG_LEVEL, value: {{ .config.logLevel }}}
- {name: ADASERVE_REDIS_PATIENCE_S, value: {{ .config.redisPatienceSeconds | int | quote }}}
{{- if has .service (list "gateway" "verifier") }}
- {name: ADASERVE_DRAIN_S, value: {{ .config.drainSeconds | int | quote }}}
{{- end }}
{{- include "adaserve.redisEnvironment" . }}
{{- include "adaserve.modelEnvironment" . }}
{{- if eq .service "gateway" }}
{{- include "adaserve.gatewayEnvironment" .root }}
{{- else if eq .service "verifier" }}
{{- include "adaserve.deletionCostEnvironment" . }}
{{- end }}
{{- include "adaserve.tracingEnvironment" . }}
- {name: HOME, value: /tmp}
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

{{- define "adaserve.redisEnvironment" }}
- {name: REDIS_URL, value: {{ include "adaserve.redisUrl" .root | quote }}}
{{- if include "adaserve.redisSecret" .root }}
- {name: ADASERVE_REDIS_USERNAME, value: {{ .service }}}
- {name: ADASERVE_REDIS_PASSWORD_FILE, value: /run/secrets/adaserve/redis/password}
{{- end }}
{{- if include "adaserve.redisCaSecret" .root }}
- {name: ADASERVE_REDIS_CA_FILE, value: /run/secrets/adaserve/redis-ca/ca.crt}
{{- end }}
{{- end }}

{{- define "adaserve.gatewayEnvironment" }}
- {name: ADASERVE_ADMIN_KEY_FILE, value: /run/secrets/adaserve/auth/admin-key}
{{- if .Values.keys.existingSecret }}
- {name: ADASERVE_KEYS_FILE, value: /run/secrets/adaserve/keys/keys.yaml}
{{- end }}
{{- if include "adaserve.policyConfigMap" . }}
- {name: ADASERVE_POLICY_FILE, value: /etc/adaserve/policy/policy.yaml}
{{- end }}
{{- with .Values.models.servedName }}
- {name: ADASERVE_SERVED_NAME, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "adaserve.deletionCostEnvironment" }}
{{- if .config.podDeletionCost.enabled }}
- {name: ADASERVE_POD_DELETION_COST, value: "true"}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
{{- end }}
{{- end }}
