{{/* Which series are this release's, as a map. */}}
{{- define "adaserve.matchLabels" -}}
{{- with .Values.metrics.matchLabels -}}
{{ toYaml . }}
{{- else -}}
namespace: {{ .Release.Namespace }}
cell: {{ .Values.cell | quote }}
{{- end -}}
{{- end }}

{{- define "adaserve.labelMatchers" -}}
{{- $found := list -}}
{{- range $name, $value := include "adaserve.matchLabels" . | fromYaml -}}
{{- $found = append $found (printf "%s=%q" $name $value) -}}
{{- end -}}
{{ join "," $found }}
{{- end }}

{{/* A trigger's query with its target in place: (dict "trigger" …). */}}
{{- define "adaserve.query" -}}
{{ .trigger.query | replace "<<.Target>>" (toString .trigger.target) }}
{{- end }}

{{/* The name of a trigger in the API of external metrics: (dict "service" … "name" …). */}}
{{- define "adaserve.externalMetric" -}}
adaserve_scaling_{{ .service }}_{{ snakecase .name }}
{{- end }}

{{/* What values.schema.json cannot compare. */}}
{{- define "adaserve.checkAutoscaling" -}}
{{- $path := printf "services.%s.autoscaling" .service -}}
{{- $scaling := .config.autoscaling -}}
{{- if gt (int $scaling.min) (int $scaling.max) -}}
{{- fail (printf "%s: min=%d is more than max=%d" $path (int $scaling.min) (int $scaling.max)) -}}
{{- end -}}
{{- $active := list -}}
{{- range $name, $trigger := $scaling.triggers -}}
{{- if ne (toString $trigger.enabled) "false" -}}{{- $active = append $active $name -}}{{- end -}}
{{- end -}}
{{- if not (or $active (and (eq $scaling.engine "keda") $scaling.redisStreams)) -}}
{{- fail (printf "%s: engine=%s needs at least one trigger that is on" $path $scaling.engine) -}}
{{- end -}}
{{- if and $scaling.redisStreams (ne $scaling.engine "keda") -}}
{{- fail (printf "%s.redisStreams: only engine=keda can ask Redis, this one is %s" $path $scaling.engine) -}}
{{- end -}}
{{- $asked := list -}}
{{- range $scaling.redisStreams -}}
{{- $one := printf "%s of %s" .count .stream -}}
{{- if has $one $asked -}}
{{- fail (printf "%s.redisStreams: %s is there twice" $path $one) -}}
{{- end -}}
{{- $asked = append $asked $one -}}
{{- if and (eq .count "streamLength") .consumerGroup -}}
{{- fail (printf "%s.redisStreams: streamLength of %s must have no consumerGroup, or KEDA counts that group's pending entries instead" $path .stream) -}}
{{- end -}}
{{- if and (ne .count "streamLength") (not .consumerGroup) -}}
{{- fail (printf "%s.redisStreams: %s of %s needs a consumerGroup, whose count it is" $path .count .stream) -}}
{{- end -}}
{{- if and (eq .count "streamLength") (regexMatch "^requests:[0-3]$" .stream) (gt (float64 .target) 7.0) -}}
{{- fail (printf "%s.redisStreams: %s has at most 8 entries, so target=%v would never ask for more; at most 7" $path .stream .target) -}}
{{- end -}}
{{- end -}}
{{- if eq .service "drafter" -}}
{{- $verifier := include "adaserve.config" (dict "root" .root "service" "verifier") | fromYaml -}}
{{- $most := ternary $verifier.replicas $verifier.autoscaling.max (eq $verifier.autoscaling.engine "none") -}}
{{- if gt (int $scaling.max) (int $most) -}}
{{- fail (printf "%s.max=%d: must be at most %d, the number of verifiers there can be; one verifier uses one drafter" $path (int $scaling.max) (int $most)) -}}
{{- end -}}
{{- end -}}
{{- end }}
