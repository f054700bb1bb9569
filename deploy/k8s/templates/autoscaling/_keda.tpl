{{- define "adaserve.prometheusAuthentication" -}}
{{ include "adaserve.fullname" . }}-prometheus
{{- end }}

{{- define "adaserve.redisAuthentication" -}}
{{ include "adaserve.fullname" . }}-redis-streams
{{- end }}

{{/* One trigger: (dict "root" … "name" … "trigger" …). A value that is missing is an error, on which nothing is scaled. */}}
{{- define "adaserve.kedaTrigger" -}}
{{- $prometheus := .root.Values.metrics.prometheus -}}
name: {{ .name | kebabcase }}
metricType: {{ .trigger.type }}
{{- if eq .trigger.type "Utilization" }}
type: cpu
metadata:
  value: {{ .trigger.target | quote }}
{{- else }}
type: prometheus
metadata:
  serverAddress: {{ $prometheus.url | quote }}
  threshold: {{ .trigger.target | quote }}
  ignoreNullValues: "false"
  {{- with $prometheus.authModes }}
  authModes: {{ join "," . }}
  {{- end }}
  query: >-
    {{- include "adaserve.query" . | replace "<<.LabelMatchers>>" (include "adaserve.labelMatchers" .root) | nindent 4 }}
{{- if or $prometheus.authModes $prometheus.hasCa }}
authenticationRef:
  name: {{ include "adaserve.prometheusAuthentication" .root }}
{{- end }}
{{- end }}
{{- end }}

{{/* A stream of Redis: (dict "root" … "stream" {stream, count, target, metricType, consumerGroup} "user" …). */}}
{{- define "adaserve.kedaStream" -}}
{{- $url := include "adaserve.redisUrl" .root | urlParse -}}
name: {{ printf "%s-%s" (replace ":" "-" .stream.stream) (kebabcase .stream.count) }}
type: redis-streams
metricType: {{ .stream.metricType | default "Value" }}
metadata:
  {{- /* KEDA asks from its own namespace, where the short name of the chart's Redis is nobody's. */}}
  {{- $own := .root.Values.redis.enabled }}
  address: {{ ternary (printf "%s-redis.%s.svc:6379" (include "adaserve.fullname" .root) .root.Release.Namespace) $url.host $own | quote }}
  databaseIndex: {{ $url.path | trimPrefix "/" | default "0" | quote }}
  stream: {{ printf "{%s}:%s" .root.Values.cell .stream.stream | quote }}
  {{ .stream.count }}: {{ .stream.target | int | quote }}
  {{- if eq .stream.count "lagCount" }}
  activationLagCount: "0"
  {{- end }}
  {{- with .stream.consumerGroup }}
  consumerGroup: {{ . }}
  {{- end }}
  {{- if eq $url.scheme "rediss" }}
  enableTLS: "true"
  {{- end }}
  {{- if include "adaserve.redisSecret" .root }}
  username: {{ .user }}
authenticationRef:
  name: {{ include "adaserve.redisAuthentication" .root }}
  {{- end }}
{{- end }}
