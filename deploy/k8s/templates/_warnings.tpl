{{/* What an operator should know of these values, though they are allowed: a list, read with fromYamlArray. */}}
{{- define "adaserve.warnings" -}}
{{- $found := list -}}
{{- if not .Values.networkPolicy.enabled -}}
{{- $found = append $found "networkPolicy.enabled is false: every pod of the cluster can reach Redis, and with it every request." -}}
{{- end -}}
{{- if hasPrefix "image://" .Values.models.target -}}
{{- $found = append $found (printf "The target is a model of the images (%s), small and good for trying things; models.target takes yours." (trimPrefix "image://" .Values.models.target)) -}}
{{- end -}}
{{- range $role := list "target" "draft" -}}
{{- $source := get $.Values.models $role -}}
{{- if and (hasPrefix "hf://" $source) (not (contains "@" $source)) -}}
{{- $found = append $found (printf "models.%s: %s names no revision, so it is what the hub has when the Job runs. Name one, as @revision, for anything but a try." $role $source) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.redis.enabled (not .Values.redis.persistence.enabled) -}}
{{- $found = append $found "redis.persistence.enabled is false: with Redis' pod its keys, quotas and queues are forgotten." -}}
{{- end -}}
{{- $service := .Values.services.gateway.service -}}
{{- if ne $service.type "ClusterIP" -}}
{{- $found = append $found (printf "services.gateway.service.type is %s: whoever reaches it reaches /metrics without a key, and sends keys for the API, /admin and the console in clear text. networkPolicy.gateway.from and your firewall say who does." $service.type) -}}
{{- end -}}
{{- if and .Values.ingress.enabled (eq .Values.ingress.tlsSecret "") -}}
{{- $found = append $found "ingress.tlsSecret is empty: keys and prompts go there in clear text, unless the controller has a certificate of its own." -}}
{{- end -}}
{{- if and .Values.metrics.prometheusRule.enabled (eq .Values.metrics.prometheusRule.runbookBase "") -}}
{{- $found = append $found "metrics.prometheusRule.runbookBase is empty: alerts name their runbook's file, and no link to it." -}}
{{- end -}}
{{- concat $found (include "adaserve.warningsOfServices" . | fromYamlArray) | toYaml -}}
{{- end }}

{{- define "adaserve.warningsOfServices" -}}
{{- $found := list -}}
{{- $scaled := list -}}
{{- $unruled := list -}}
{{- range $service := include "adaserve.services" . | fromYamlArray -}}
{{- $config := include "adaserve.config" (dict "root" $ "service" $service) | fromYaml -}}
{{- $engine := $config.autoscaling.engine -}}
{{- if ne $engine "none" -}}{{- $scaled = append $scaled $service -}}{{- end -}}
{{- if and (eq $engine "hpa") (not $config.autoscaling.adapterRules) -}}{{- $unruled = append $unruled $service -}}{{- end -}}
{{- $source := get $.Values.models (ternary "draft" "target" (eq $service "drafter")) -}}
{{- $onProcessors := and (hasKey $config "engine") (not (hasPrefix "cuda" (dig "engine" "device" "" $config))) -}}
{{- if and $onProcessors (hasPrefix "hf://" $source) -}}
{{- $found = append $found (printf "services.%s.engine.device is %s: %s is computed in float32 by processors, and services.%s.resources.limits.memory (%s) must hold four bytes for each of its parameters, and the KV." $service $config.engine.device $source $service (include "adaserve.memoryLimit" $config.resources | default "none")) -}}
{{- end -}}
{{- if and $onProcessors (contains "gpu" (dig "limits" dict $config.resources | keys | join " ")) -}}
{{- $found = append $found (printf "services.%s reserves a GPU and does not use it: services.%s.engine.device is %s." $service $service $config.engine.device) -}}
{{- end -}}
{{- if hasPrefix "cuda" (dig "engine" "device" "" $config) -}}
{{- $startup := $config.probes.startup -}}
{{- $found = append $found (printf "A %s that has not loaded its model after %d s is started anew: services.%s.probes.startup." $service (mul $startup.periodSeconds $startup.failureThreshold) $service) -}}
{{- end -}}
{{- end -}}
{{- with $scaled -}}
{{- $found = append $found (printf "Autoscaled: %s. Without Prometheus' metrics they stay as they are. A tool that renders without the cluster must ignore spec.replicas of Deployments before it turns scaling on, or they are cut to 1: docs/autoscaling.md." (join ", " .)) -}}
{{- if not (or $.Values.metrics.serviceMonitor.enabled $.Values.metrics.podMonitor.enabled) -}}
{{- $found = append $found "Neither metrics.serviceMonitor nor metrics.podMonitor is enabled: unless your Prometheus scrapes these pods in another way, with the labels of metrics.matchLabels, nothing is scaled but on CPU." -}}
{{- end -}}
{{- end -}}
{{- with $unruled -}}
{{- $found = append $found (printf "HorizontalPodAutoscalers of %s ask for external metrics, and autoscaling.adapterRules is false: unless prometheus-adapter has rules for these, they know CPU at most." (join ", " .)) -}}
{{- end -}}
{{- $drafters := include "adaserve.config" (dict "root" . "service" "drafter") | fromYaml -}}
{{- $verifiers := include "adaserve.config" (dict "root" . "service" "verifier") | fromYaml -}}
{{- $fixed := and (eq $drafters.autoscaling.engine "none") (not $drafters.inVerifierPod) -}}
{{- $most := ternary $verifiers.replicas $verifiers.autoscaling.max (eq $verifiers.autoscaling.engine "none") | int -}}
{{- if and $fixed (gt (int $drafters.replicas) $most) -}}
{{- $found = append $found (printf "services.drafter.replicas is %d, and there are at most %d verifiers, of which each uses one drafter: those beyond only stand by." (int $drafters.replicas) $most) -}}
{{- end -}}
{{- $found | toYaml -}}
{{- end }}
