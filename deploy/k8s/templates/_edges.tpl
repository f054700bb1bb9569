{{/* Who may talk to whom: {component: {ingress: [rule], egress: [rule]}}, read with fromYaml. */}}
{{- define "adaserve.edges" -}}
{{- $allowed := .Values.networkPolicy -}}
{{- $tracing := .Values.tracing -}}
{{- $sink := ternary "collector" (ternary "jaeger" "" $tracing.jaeger.enabled) $tracing.collector.enabled -}}
{{- $otlp := list (ternary 4317 4318 (eq $tracing.protocol "grpc")) -}}
{{- $services := list -}}
{{- range $service := include "adaserve.services" . | fromYamlArray -}}
{{- $scope := dict "root" $ "service" $service -}}
{{- if not (include "adaserve.isHosted" $scope) -}}
{{- $services = append $services $service -}}
{{- $config := include "adaserve.config" $scope | fromYaml }}
{{ $service }}:
  ingress:
    {{- if eq $service "gateway" }}
    {{- include "adaserve.rule" (dict "root" $ "from" $allowed.gateway.from "ports" (list 8000)) | nindent 4 }}
    {{- end }}
    {{- $ports := list (include "adaserve.port" $scope | int) }}
    {{- if and (eq $service "verifier") $.Values.services.drafter.inVerifierPod }}
    {{- $ports = append $ports 9101 }}
    {{- end }}
    {{- include "adaserve.rule" (dict "root" $ "from" $allowed.metrics.from "ports" $ports) | nindent 4 }}
    {{- with $config.networkPolicy.extraIngress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  egress:
    {{- if $.Values.redis.enabled }}
    {{- include "adaserve.rule" (dict "root" $ "toComponents" (list "redis") "ports" (list 6379)) | nindent 4 }}
    {{- else }}
    {{- $port := include "adaserve.urlPort" (dict "url" $.Values.externalRedis.url "otherwise" 6379) | int }}
    {{- include "adaserve.rule" (dict "root" $ "to" $allowed.externalRedis.to "ports" (list $port)) | nindent 4 }}
    {{- end }}
    {{- if $sink }}
    {{- include "adaserve.rule" (dict "root" $ "toComponents" (list $sink) "ports" $otlp) | nindent 4 }}
    {{- else if $tracing.endpoint }}
    {{- $port := include "adaserve.urlPort" (dict "url" $tracing.endpoint "otherwise" (ternary 443 80 (hasPrefix "https:" $tracing.endpoint))) | int }}
    {{- include "adaserve.rule" (dict "root" $ "to" $allowed.otlp.to "ports" (list $port)) | nindent 4 }}
    {{- end }}
    {{- if and (eq $service "verifier") $config.podDeletionCost.enabled }}
    {{- include "adaserve.rule" (dict "root" $ "to" $allowed.apiServer.to "ports" $allowed.apiServer.ports) | nindent 4 }}
    {{- end }}
    {{- with $config.networkPolicy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
{{- end -}}
{{- if .Values.redis.enabled }}
redis:
  ingress:
    {{- include "adaserve.rule" (dict "root" $ "fromComponents" $services "ports" (list 6379)) | nindent 4 }}
    {{- with $allowed.redis.from }}
    {{- include "adaserve.rule" (dict "root" $ "from" . "ports" (list 6379)) | nindent 4 }}
    {{- end }}
{{- end }}
{{- if $tracing.collector.enabled }}
collector:
  ingress:
    {{- include "adaserve.rule" (dict "root" $ "fromComponents" $services "ports" $otlp) | nindent 4 }}
  egress:
    {{- if $tracing.collector.exportTo }}
    {{- $port := include "adaserve.urlPort" (dict "url" (printf "grpc://%s" $tracing.collector.exportTo) "otherwise" 4317) | int }}
    {{- include "adaserve.rule" (dict "root" $ "to" $allowed.otlp.to "ports" (list $port)) | nindent 4 }}
    {{- else }}
    {{- include "adaserve.rule" (dict "root" $ "toComponents" (list "jaeger") "ports" (list 4317)) | nindent 4 }}
    {{- end }}
{{- end }}
{{- if $tracing.jaeger.enabled }}
jaeger:
  ingress:
    {{- include "adaserve.rule" (dict "root" $ "fromComponents" (ternary (list "collector") $services $tracing.collector.enabled) "ports" (ternary (list 4317) $otlp $tracing.collector.enabled)) | nindent 4 }}
    {{- with $allowed.jaeger.from }}
    {{- include "adaserve.rule" (dict "root" $ "from" . "ports" (list 16686)) | nindent 4 }}
    {{- end }}
{{- end }}
{{- if include "adaserve.isAnyFetched" . }}
models:
  egress:
    {{- $port := include "adaserve.urlPort" (dict "url" .Values.models.hub.endpoint "otherwise" 443) | int }}
    {{- include "adaserve.rule" (dict "root" $ "to" $allowed.hub.to "ports" (list $port)) | nindent 4 }}
{{- end }}
{{- end }}

{{/* One rule: (dict "root" $ "ports" [n] and one of "from"/"to" (peers; none: everybody), "fromComponents"/"toComponents"). */}}
{{- define "adaserve.rule" -}}
{{- $ports := list -}}
{{- range .ports }}{{ $ports = append $ports (dict "protocol" "TCP" "port" (int .)) }}{{ end -}}
{{- $rule := dict "ports" $ports -}}
{{- range $side := list "from" "to" -}}
{{- with get $ (printf "%sComponents" $side) -}}
{{- $labels := omit (include "adaserve.selector" (dict "root" $.root "service" "") | fromYaml) "app.kubernetes.io/component" -}}
{{- $among := dict "key" "app.kubernetes.io/component" "operator" "In" "values" . -}}
{{- $_ := set $rule $side (list (dict "podSelector" (dict "matchLabels" $labels "matchExpressions" (list $among)))) -}}
{{- end -}}
{{- with get $ $side -}}
{{- $_ := set $rule $side . -}}
{{- end -}}
{{- end -}}
- {{ toYaml $rule | nindent 2 | trim }}
{{- end }}

{{/* The port in a URL: (dict "url" … "otherwise" n). */}}
{{- define "adaserve.urlPort" -}}
{{ (urlParse .url).host | regexFind ":[0-9]+$" | trimPrefix ":" | default (toString .otherwise) }}
{{- end }}
