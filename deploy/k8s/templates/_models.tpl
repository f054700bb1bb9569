{{/* Where models are: (dict "root" $ "role" "target"). */}}

{{- define "adaserve.modelPath" -}}
{{- $source := get .root.Values.models .role -}}
{{- if hasPrefix "image://" $source -}}
{{ trimPrefix "image://" $source }}
{{- else if hasPrefix "hf://" $source -}}
/models/cache/{{ trimPrefix "hf://" $source }}
{{- else -}}
/models/{{ .role }}/{{ regexReplaceAll "^pvc://[^/]+/?" $source "" }}
{{- end -}}
{{- end }}

{{- define "adaserve.modelEnvironment" }}
{{- if has .service (list "gateway" "verifier") }}
- {name: ADASERVE_TARGET, value: {{ include "adaserve.modelPath" (dict "root" .root "role" "target") | quote }}}
{{- end }}
{{- if eq .service "drafter" }}
- {name: ADASERVE_DRAFT, value: {{ include "adaserve.modelPath" (dict "root" .root "role" "draft") | quote }}}
{{- end }}
{{- if and (eq .service "gateway") .root.Values.models.servedName }}
- {name: ADASERVE_SERVED_NAME, value: {{ .root.Values.models.servedName | quote }}}
{{- end }}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- end }}
