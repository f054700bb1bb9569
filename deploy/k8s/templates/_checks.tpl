{{/* Fails where a condition holds: (list condition "field: what is wrong"). */}}
{{- define "adaserve.refuse" -}}
{{- if first . }}{{ fail (printf "\n\n%s\n" (last .)) }}{{ end -}}
{{- end }}

{{- define "adaserve.checkRedis" -}}
{{- $redis := .Values.redis -}}
{{- $external := .Values.externalRedis -}}
{{- $both := and $redis.enabled (ne $external.url "") -}}
{{- include "adaserve.refuse" (list $both "externalRedis.url: is given, and redis.enabled is true; one of them must go") -}}
{{- $none := and (not $redis.enabled) (eq $external.url "") -}}
{{- include "adaserve.refuse" (list $none "externalRedis.url: is required where redis.enabled is false") -}}
{{- $secret := contains "@" $external.url -}}
{{- include "adaserve.refuse" (list $secret "externalRedis.url: must not hold a user or password; they come from externalRedis.existingSecret") -}}
{{- $odd := and (ne $external.url "") (not (regexMatch "^rediss?://[^/, ]+(/0)?$" $external.url)) -}}
{{- include "adaserve.refuse" (list $odd (printf "externalRedis.url: %q must be like redis://host:6379/0 or rediss://host:6380/0" $external.url)) -}}
{{- $caAlone := and (ne $external.tls.caSecret "") (not (hasPrefix "rediss://" $external.url)) -}}
{{- include "adaserve.refuse" (list $caAlone "externalRedis.tls.caSecret: needs an externalRedis.url that starts with rediss://") -}}
{{- $limit := include "adaserve.memoryLimit" $redis.resources -}}
{{- if and $redis.enabled (ne $limit "") -}}
{{- $tooMuch := ge (include "adaserve.bytes" $redis.maxMemory | int64) (include "adaserve.bytes" $limit | int64) -}}
{{- include "adaserve.refuse" (list $tooMuch (printf "redis.maxMemory: %s must be less than redis.resources.limits.memory, which is %s" $redis.maxMemory $limit)) -}}
{{- end -}}
{{- end }}

{{- define "adaserve.checkModels" -}}
{{- $known := "^(image:///[^ ]+|hf://[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(@[A-Za-z0-9_.-]+)?|pvc://[a-z0-9.-]+/[^ ]+)$" -}}
{{- range $role := list "target" "draft" -}}
{{- $source := get $.Values.models $role -}}
{{- $message := printf "models.%s: %q must be like image:///path, hf://org/name@revision or pvc://claim/path" $role $source -}}
{{- include "adaserve.refuse" (list (not (regexMatch $known $source)) $message) -}}
{{- $climbs := printf "models.%s: %q must not hold .. as a part" $role $source -}}
{{- include "adaserve.refuse" (list (regexMatch "[/@]\\.\\.(/|@|$)" $source) $climbs) -}}
{{- end -}}
{{- end }}

{{- define "adaserve.checkLabels" -}}
{{- range $label, $_ := .labels -}}
{{- $own := regexMatch "^(app\\.kubernetes\\.io/(name|instance|component|part-of|version|managed-by)|helm\\.sh/chart)$" $label -}}
{{- include "adaserve.refuse" (list $own (printf "%s.%s: is a label of the chart's own" $.place $label)) -}}
{{- end -}}
{{- end }}

{{- define "adaserve.checkPolicyAndRoutes" -}}
{{- $both := and (ne .Values.policy.inline "") (ne .Values.policy.existingConfigMap "") -}}
{{- include "adaserve.refuse" (list $both "policy.inline: is given, and policy.existingConfigMap as well; one of them must go") -}}
{{- $broken := hasKey (.Values.policy.inline | fromYaml) "Error" -}}
{{- include "adaserve.refuse" (list $broken "policy.inline: is no YAML mapping; `adaserve policy check` says where") -}}
{{- $unread := and .Values.metrics.prometheus.hasCa (empty .Values.metrics.prometheus.authModes) -}}
{{- include "adaserve.refuse" (list $unread "metrics.prometheus.hasCa: needs authModes, as KEDA reads no `ca` without them") -}}
{{- $nowhere := and .Values.httpRoute.enabled (empty .Values.httpRoute.parentRefs) -}}
{{- include "adaserve.refuse" (list $nowhere "httpRoute.parentRefs: needs a Gateway, such as {name: public, namespace: gateways}") -}}
{{- if not .Values.services.gateway.service.publishAdmin -}}
{{- $inside := "leads to /admin, /metrics or the console as well; only /v1, /live and /ready, unless services.gateway.service.publishAdmin is true" -}}
{{- range $path := ternary .Values.ingress.paths list .Values.ingress.enabled -}}
{{- include "adaserve.refuse" (list (not (regexMatch "^/(v1|live|ready)(/|$)" $path)) (printf "ingress.paths: %s %s" $path $inside)) -}}
{{- end -}}
{{- range $match := ternary .Values.httpRoute.matches list .Values.httpRoute.enabled -}}
{{- $path := dig "path" "value" "/" $match -}}
{{- $wide := or (not (regexMatch "^/(v1|live|ready)(/|$)" $path)) (eq (dig "path" "type" "PathPrefix" $match) "RegularExpression") -}}
{{- include "adaserve.refuse" (list $wide (printf "httpRoute.matches: %s %s" $path $inside)) -}}
{{- end -}}
{{- end -}}
{{- $hostless := and (ne .Values.ingress.tlsSecret "") (empty .Values.ingress.hosts) -}}
{{- include "adaserve.refuse" (list $hostless "ingress.hosts: needs the names that ingress.tlsSecret is for") -}}
{{- end }}

{{- define "adaserve.checkTracing" -}}
{{- $tracing := .Values.tracing -}}
{{- $own := or $tracing.jaeger.enabled $tracing.collector.enabled -}}
{{- $both := and (ne $tracing.endpoint "") $own -}}
{{- include "adaserve.refuse" (list $both "tracing.endpoint: is given, and tracing.jaeger or tracing.collector is enabled; spans go to one place. A collector sends on to tracing.collector.exportTo") -}}
{{- $nowhere := and $tracing.collector.enabled (not $tracing.jaeger.enabled) (eq $tracing.collector.exportTo "") -}}
{{- include "adaserve.refuse" (list $nowhere "tracing.collector.exportTo: is required, such as tempo.observability:4317, unless tracing.jaeger.enabled is true") -}}
{{- end }}

{{- define "adaserve.checkServices" -}}
{{- $only := dict "engine" (list "drafter" "verifier") "inVerifierPod" (list "drafter") "podDeletionCost" (list "verifier") "service" (list "gateway") -}}
{{- range $field, $owners := $only -}}
{{- include "adaserve.refuse" (list (hasKey $.Values.defaults $field) (printf "defaults.%s: is a field of services.%s only" $field (join " and services." $owners))) -}}
{{- range $service := include "adaserve.services" $ | fromYamlArray -}}
{{- $misplaced := and (hasKey (get $.Values.services $service) $field) (not (has $service $owners)) -}}
{{- include "adaserve.refuse" (list $misplaced (printf "services.%s.%s: is a field of services.%s only" $service $field (join " and services." $owners))) -}}
{{- end -}}
{{- end -}}
{{- range $service := include "adaserve.services" $ | fromYamlArray -}}
{{- include "adaserve.checkService" (dict "root" $ "service" $service) -}}
{{- end -}}
{{- include "adaserve.checkHosted" . -}}
{{- end }}

{{- define "adaserve.checkService" -}}
{{- $config := include "adaserve.config" . | fromYaml -}}
{{- $place := printf "services.%s" .service -}}
{{- $two := and $config.pdb.enabled (not (kindIs "invalid" $config.pdb.minAvailable)) (not (kindIs "invalid" $config.pdb.maxUnavailable)) -}}
{{- include "adaserve.refuse" (list $two (printf "%s.pdb.minAvailable: is given, and maxUnavailable as well; set one of them to null" $place)) -}}
{{- $stuck := and (eq $config.strategy.type "Recreate") (not (empty $config.strategy.rollingUpdate)) -}}
{{- include "adaserve.refuse" (list $stuck (printf "%s.strategy.rollingUpdate: must be null where the type is Recreate" $place)) -}}
{{- $window := mul $config.probes.startup.periodSeconds $config.probes.startup.failureThreshold -}}
{{- $late := ge (int $config.redisPatienceSeconds) (int $window) -}}
{{- include "adaserve.refuse" (list $late (printf "%s.redisPatienceSeconds: %d must be less than the %d s of probes.startup" $place (int $config.redisPatienceSeconds) (int $window))) -}}
{{- $open := and (ne (dig "service" "type" "ClusterIP" $config) "ClusterIP") (not (dig "service" "publishAdmin" false $config)) -}}
{{- include "adaserve.refuse" (list $open (printf "%s.service.type: %s leads to /admin, /metrics and the console as well, in clear text; use ingress or httpRoute, or say publishAdmin: true" $place (dig "service" "type" "" $config))) -}}
{{- include "adaserve.checkEngine" (dict "place" $place "config" $config) -}}
{{- $twice := and (include "adaserve.isHosted" .) (ne (dig "autoscaling" "engine" "none" $config) "none") -}}
{{- include "adaserve.refuse" (list $twice (printf "%s.autoscaling.engine: must be none where inVerifierPod is true; the verifier's counts" $place)) -}}
{{- $asksApi := dig "podDeletionCost" "enabled" false $config -}}
{{- $anybodys := and $asksApi (not $config.serviceAccount.create) (eq $config.serviceAccount.name "") -}}
{{- include "adaserve.refuse" (list $anybodys (printf "%s.podDeletionCost.enabled: needs a serviceAccount of its own, not the namespace's default" $place)) -}}
{{- $shared := and $asksApi .root.Values.services.drafter.inVerifierPod -}}
{{- include "adaserve.refuse" (list $shared (printf "%s.podDeletionCost.enabled: would give the API token to the drafter of inVerifierPod as well" $place)) -}}
{{- include "adaserve.checkLabels" (dict "labels" $config.podLabels "place" (printf "%s.podLabels" $place)) -}}
{{- $scope := . -}}
{{- $own := regexFindAll "name: [A-Za-z_]+" (include "adaserve.environment" (merge (dict "config" (omit $config "env" "extraEnvVars")) $scope)) -1 -}}
{{- range $volume := $config.extraVolumes -}}
{{- $taken := regexMatch "^((tmp|shm|redis)-(gateway|drafter|selector|verifier)|redis-ca|auth|keys|policy|models|model-(target|draft))$" $volume.name -}}
{{- include "adaserve.refuse" (list $taken (printf "%s.extraVolumes: %s is a volume of the chart's own" $place $volume.name)) -}}
{{- end -}}
{{- range $name, $_ := $config.env -}}
{{- $twin := or (has (printf "name: %s_FILE" $name) $own) (and (hasSuffix "_FILE" $name) (has (printf "name: %s" (trimSuffix "_FILE" $name)) $own)) -}}
{{- include "adaserve.refuse" (list $twin (printf "%s.env.%s: the chart gives it as a file or in clear already, and a service takes one of the two" $place $name)) -}}
{{- include "adaserve.refuse" (list (has (printf "name: %s" $name) $own) (printf "%s.env.%s: is set by the chart itself; values.yaml says from which value, if from any" $place $name)) -}}
{{- end -}}
{{- range $config.extraEnvVars -}}
{{- include "adaserve.refuse" (list (has (printf "name: %s_FILE" .name) $own) (printf "%s.extraEnvVars: %s is given as a file already, and a service takes one of the two" $place .name)) -}}
{{- include "adaserve.refuse" (list (has (printf "name: %s" .name) $own) (printf "%s.extraEnvVars: %s is set by the chart itself; values.yaml says from which value, if from any" $place .name)) -}}
{{- end -}}
{{- end }}
