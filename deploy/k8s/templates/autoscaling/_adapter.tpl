{{/* A rule of prometheus-adapter: (dict "root" … "service" … "name" … "trigger" …). The adapter puts the labels in. */}}
{{- define "adaserve.adapterRule" -}}
{{- $namespaced := hasKey (include "adaserve.matchLabels" .root | fromYaml) "namespace" -}}
seriesQuery: '{__name__="{{ regexFind "adaserve_[a-z_]+" .trigger.query }}"{{ if $namespaced }},namespace!=""{{ end }}}'
resources:
  {{- if $namespaced }}
  overrides: {namespace: {resource: namespace}}
  {{- else }}
  namespaced: false
  {{- end }}
name: {matches: ".*", as: {{ include "adaserve.externalMetric" . }}}
metricsQuery: >-
  {{- include "adaserve.query" . | nindent 2 }}
{{- end }}
