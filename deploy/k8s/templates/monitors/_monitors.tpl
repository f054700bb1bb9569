{{/* Metadata with labels of its own besides: (dict "root" … "service" … "name" … "labels" … "annotations" …). */}}
{{- define "adaserve.labelled" -}}
{{- $metadata := include "adaserve.metadata" . | fromYaml -}}
{{- with .labels -}}{{- $_ := set $metadata "labels" (mergeOverwrite $metadata.labels .) -}}{{- end -}}
{{- with .namespace -}}{{- $_ := set $metadata "namespace" . -}}{{- end -}}
{{ toYaml $metadata }}
{{- end }}

{{/* The four services, and nothing else of the release. */}}
{{- define "adaserve.scraped" -}}
matchLabels:
  app.kubernetes.io/name: {{ include "adaserve.name" . }}
  app.kubernetes.io/instance: {{ .Release.Name }}
matchExpressions:
  - {key: app.kubernetes.io/component, operator: In, values: [gateway, drafter, selector, verifier]}
{{- end }}
