{{/* Models and the volumes that they are on: (dict "root" $ "role" "target"). */}}

{{- define "adaserve.modelPath" -}}
{{- $source := get .root.Values.models .role -}}
{{- if hasPrefix "image://" $source -}}
{{ trimPrefix "image://" $source }}
{{- else if hasPrefix "pvc://" $source -}}
/models/{{ .role }}/{{ regexReplaceAll "^pvc://[^/]+/" $source "" }}
{{- else -}}
/models/cache/{{ include "adaserve.cachedAs" . }}
{{- end -}}
{{- end }}

{{/* Below the cache: revision, organisation, name. */}}
{{- define "adaserve.cachedAs" -}}
{{- $parts := trimPrefix "hf://" (get .root.Values.models .role) | splitList "@" -}}
{{ if gt (len $parts) 1 }}{{ last $parts }}{{ else }}main{{ end }}/{{ first $parts }}
{{- end }}

{{/* Which model a service reads; the gateway only its tokenizer. */}}
{{- define "adaserve.role" -}}
{{ get (dict "gateway" "target" "verifier" "target" "drafter" "draft") .service }}
{{- end }}

{{- define "adaserve.isFetched" -}}
{{- $role := include "adaserve.role" . -}}
{{- if and $role (hasPrefix "hf://" (get .root.Values.models $role)) }}true{{ end -}}
{{- end }}

{{- define "adaserve.isAnyFetched" -}}
{{- if or (hasPrefix "hf://" .Values.models.target) (hasPrefix "hf://" .Values.models.draft) }}true{{ end -}}
{{- end }}

{{- define "adaserve.cacheClaim" -}}
{{ .Values.models.cache.existingClaim | default (printf "%s-models" (include "adaserve.fullname" .)) }}
{{- end }}

{{- define "adaserve.modelEnvironment" }}
{{- $role := include "adaserve.role" . }}
{{- if $role }}
- {name: ADASERVE_{{ upper $role }}, value: {{ include "adaserve.modelPath" (dict "root" .root "role" $role) | quote }}}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- end }}
{{- with .config.engine }}
- {name: ADASERVE_DEVICE, value: {{ .device | quote }}}
- {name: ADASERVE_DTYPE, value: {{ .dtype | default (ternary "bfloat16" "float32" (hasPrefix "cuda" .device)) }}}
{{- if and (hasPrefix "cuda" .device) (not .kvMemoryMb) }}
- {name: ADASERVE_GPU_MEMORY_SHARE, value: {{ .gpuMemoryShare | quote }}}
{{- else }}
- {name: ADASERVE_KV_MEMORY_MB, value: {{ .kvMemoryMb | default 256 | int | quote }}}
{{- end }}
- {name: ADASERVE_THREADS, value: {{ .threads | int | quote }}}
- {name: OMP_NUM_THREADS, value: {{ .threads | int | quote }}}
{{- if gt (.tensorParallel | default 1 | int) 1 }}
- {name: ADASERVE_TENSOR_PARALLEL, value: {{ .tensorParallel | int | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "adaserve.modelMounts" }}
{{- $role := include "adaserve.role" . }}
{{- if include "adaserve.isFetched" . }}
- {name: models, mountPath: /models/cache, readOnly: true}
{{- else if and $role (hasPrefix "pvc://" (get .root.Values.models $role)) }}
- {name: model-{{ $role }}, mountPath: /models/{{ $role }}, readOnly: true}
{{- end }}
{{- end }}

{{/* Of all services in a pod: (dict "root" $ "services" […]). */}}
{{- define "adaserve.modelVolumes" }}
{{- $claims := dict }}
{{- range $service := .services }}
{{- $role := include "adaserve.role" (dict "service" $service) }}
{{- $source := dig ($role | default "none") "" $.root.Values.models }}
{{- if hasPrefix "hf://" $source }}
{{- $_ := set $claims "models" (include "adaserve.cacheClaim" $.root) }}
{{- else if hasPrefix "pvc://" $source }}
{{- $_ := set $claims (printf "model-%s" $role) (trimPrefix "pvc://" $source | splitList "/" | first) }}
{{- end }}
{{- end }}
{{- range $name, $claim := $claims }}
- {name: {{ $name }}, persistentVolumeClaim: {claimName: {{ $claim }}, readOnly: true}}
{{- end }}
{{- end }}
