{{/* The image of a service: (dict "root" $ "service" … "config" …). */}}
{{- define "adaserve.image" -}}
{{- $image := .root.Values.image -}}
{{- $isCuda := hasPrefix "cuda" (dig "engine" "device" "" (.config | default dict)) -}}
{{- $tag := printf "%s%s" ($image.tag | default .root.Chart.AppVersion) (ternary $image.cudaSuffix "" $isCuda) -}}
{{- $own := dict "registry" $image.registry "repository" (printf "adaserve-%s" .service) "tag" $tag -}}
{{ include "adaserve.otherImage" (dict "root" .root "image" (set $own "digest" (get $image.digests .service))) }}
{{- end }}

{{/* Any image: (dict "root" $ "image" {registry, repository, tag, digest}). */}}
{{- define "adaserve.otherImage" -}}
{{- $image := .image -}}
{{- with .root.Values.global.imageRegistry | default $image.registry }}{{ . }}/{{ end -}}
{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag }}{{ end -}}
{{- end }}

{{- define "adaserve.pullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.image.pullSecrets | uniq -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
