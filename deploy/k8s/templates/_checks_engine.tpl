{{/* Of a service with a model: (dict "place" "services.verifier" "config" …). */}}
{{- define "adaserve.checkEngine" -}}
{{- with .config.engine -}}
{{- $resources := $.config.resources -}}
{{- $limit := include "adaserve.memoryLimit" $resources -}}
{{- $bytes := include "adaserve.bytes" ($limit | default "0") | int64 -}}
{{- include "adaserve.checkRanks" $ -}}
{{- if hasPrefix "cuda" .device -}}
{{- $asks := print (dig "limits" dict $resources | keys) (dig "claims" list $resources) -}}
{{- $gpuless := and (not (contains "/" $asks)) (not (contains "name" $asks)) -}}
{{- include "adaserve.refuse" (list $gpuless (printf "%s.engine.device: is cuda, and %s.resources asks for no GPU; give limits such as nvidia.com/gpu: 1, or claims" $.place $.place)) -}}
{{- /* What is enough for the small models on processors is not meant for any GPU. */ -}}
{{- $little := and (ne (toString .kvMemoryMb) "") (le (int .kvMemoryMb) 256) -}}
{{- include "adaserve.refuse" (list $little (printf "%s.engine.kvMemoryMb: %d is for the small models on processors; with cuda leave it empty, or say what the GPU has beside the weights, more than 256" $.place (int .kvMemoryMb))) -}}
{{- $most := ternary 3 2 (eq $.place "services.verifier") -}}
{{- $small := and (ne $limit "") (le $bytes (mul $most 1073741824)) -}}
{{- include "adaserve.refuse" (list $small (printf "%s.resources.limits.memory: %s is for the small models on processors; weights come to the GPU through memory, so with cuda more than %dGi" $.place $limit $most)) -}}
{{- else -}}
{{- $ranks := .tensorParallel | default 1 | int64 -}}
{{- $kv := .kvMemoryMb | default 256 | int64 -}}
{{- $full := and (ne $limit "") (ge (mul $kv $ranks 1048576) $bytes) -}}
{{- $each := ternary (printf ", for each of %d ranks," $ranks) "" (gt $ranks 1) -}}
{{- include "adaserve.refuse" (list $full (printf "%s.engine.kvMemoryMb: %d%s must be less than %s.resources.limits.memory, which is %s and holds the weights, too" $.place $kv $each $.place $limit)) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Of engine.tensorParallel, as for adaserve.checkEngine. */}}
{{- define "adaserve.checkRanks" -}}
{{- $engine := .config.engine -}}
{{- $misplaced := and (hasKey $engine "tensorParallel") (ne .place "services.verifier") -}}
{{- include "adaserve.refuse" (list $misplaced (printf "%s.engine.tensorParallel: is a field of services.verifier only" .place)) -}}
{{- $ranks := $engine.tensorParallel | default 1 | int -}}
{{- if and (gt $ranks 1) (hasPrefix "cuda" $engine.device) -}}
{{- $one := ne $engine.device "cuda" -}}
{{- include "adaserve.refuse" (list $one (printf "%s.engine.device: %s is one GPU, and tensorParallel is %d; with cuda each rank has its own" .place $engine.device $ranks)) -}}
{{- $gpus := 0 -}}
{{- range $resource, $count := dig "limits" dict .config.resources -}}
{{- if contains "/" $resource }}{{ $gpus = max $gpus (int $count) }}{{ end -}}
{{- end -}}
{{- $few := and (lt (int $gpus) $ranks) (empty (dig "claims" list .config.resources)) -}}
{{- include "adaserve.refuse" (list $few (printf "%s.engine.tensorParallel: %d ranks need a GPU each, and %s.resources.limits gives %d; give nvidia.com/gpu: %d, or claims" .place $ranks .place (int $gpus) $ranks)) -}}
{{- $shmless := eq .config.sharedMemory "" -}}
{{- include "adaserve.refuse" (list $shmless (printf "%s.sharedMemory: is required, such as 8Gi, where engine.tensorParallel is more than 1; the ranks exchange through /dev/shm" .place)) -}}
{{- end -}}
{{- end }}

{{/* A drafter in the verifier's pod is a container: what is a pod's would be ignored. */}}
{{- define "adaserve.checkHosted" -}}
{{- $drafter := .Values.services.drafter -}}
{{- if $drafter.inVerifierPod -}}
{{- $ofContainers := list "inVerifierPod" "engine" "resources" "command" "env" "extraEnvVars" "logLevel" "containerSecurityContext" "sharedMemory" "tmpSize" "extraVolumes" "extraVolumeMounts" "probes" "redisPatienceSeconds" "preStopSeconds" "drainSeconds" "marginSeconds" "autoscaling" -}}
{{- range $field, $value := $drafter -}}
{{- $ignored := not (or (has $field $ofContainers) (kindIs "invalid" $value)) -}}
{{- include "adaserve.refuse" (list $ignored (printf "services.drafter.%s: is of a pod, and with inVerifierPod that is the verifier's: services.verifier.%s" $field $field)) -}}
{{- end -}}
{{- $host := include "adaserve.config" (dict "root" . "service" "verifier") | fromYaml -}}
{{- $guest := include "adaserve.config" (dict "root" . "service" "drafter") | fromYaml -}}
{{- $shares := list -}}
{{- range list $guest.engine $host.engine -}}
{{- if and (hasPrefix "cuda" .device) (eq (toString .kvMemoryMb) "") }}{{ $shares = append $shares .gpuMemoryShare }}{{ end -}}
{{- end -}}
{{- $over := and (eq (len $shares) 2) (gt (addf (first $shares) (last $shares)) 1.0) -}}
{{- include "adaserve.refuse" (list $over (printf "services.drafter.engine.gpuMemoryShare: %v and the verifier's %v are more than 1, and with inVerifierPod they share a GPU" (first $shares) (last $shares))) -}}
{{- range $mine := $guest.extraVolumes -}}
{{- range $host.extraVolumes -}}
{{- $other := and (eq .name $mine.name) (not (deepEqual . $mine)) -}}
{{- include "adaserve.refuse" (list $other (printf "services.drafter.extraVolumes: %s is another volume in services.verifier.extraVolumes, and they share a pod" .name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
