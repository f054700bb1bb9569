{{/* Where spans go; empty: nowhere. */}}
{{- define "adaserve.tracingEndpoint" -}}
{{- $tracing := .Values.tracing -}}
{{- $port := ternary "4317" "4318" (eq $tracing.protocol "grpc") -}}
{{- if $tracing.endpoint -}}
{{ $tracing.endpoint }}
{{- else if or $tracing.collector.enabled $tracing.jaeger.enabled -}}
http://{{ include "adaserve.fullname" . }}-{{ ternary "collector" "jaeger" $tracing.collector.enabled }}:{{ $port }}
{{- end -}}
{{- end }}

{{/* Metrics are scraped, so they are not sent besides. A collector that decides at the end needs every trace. */}}
{{- define "adaserve.tracingEnvironment" }}
{{- $tracing := .root.Values.tracing }}
{{- with include "adaserve.tracingEndpoint" .root }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
- {name: OTEL_EXPORTER_OTLP_PROTOCOL, value: {{ $tracing.protocol }}}
- {name: OTEL_METRICS_EXPORTER, value: none}
- {name: OTEL_RESOURCE_ATTRIBUTES, value: {{ printf "k8s.namespace.name=%s,k8s.deployment.name=%s" $.root.Release.Namespace (include "adaserve.componentName" $) | quote }}}
{{- with $tracing.sampler | default (ternary "always_on" "" $tracing.collector.enabled) }}
- {name: OTEL_TRACES_SAMPLER, value: {{ . }}}
{{- end }}
{{- with $tracing.samplerArg }}
- {name: OTEL_TRACES_SAMPLER_ARG, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "adaserve.collectorExport" -}}
{{ .Values.tracing.collector.exportTo | default (printf "%s-jaeger:4317" (include "adaserve.fullname" .)) }}
{{- end }}

{{/* deploy/otel/collector.yaml, as `make chart` has copied it. */}}
{{- define "adaserve.collectorBase" -}}
{{ .Files.Get "files/collector.yaml" | replace "jaeger:4317" (include "adaserve.collectorExport" .) | trim }}
{{- end }}

{{- define "adaserve.collectorOwn" -}}
{{- $health := dict "health_check" (dict "endpoint" "0.0.0.0:13133") -}}
{{- $own := dict "extensions" $health "service" (dict "extensions" (list "health_check")) -}}
{{ toYaml (mergeOverwrite $own (deepCopy .Values.tracing.collector.config)) }}
{{- end }}
