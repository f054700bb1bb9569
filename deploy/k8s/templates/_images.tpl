{{- define "adaserve.image" -}}
{{- $image := .root.Values.image -}}
{{- $registry := .root.Values.global.imageRegistry | default $image.registry -}}
{{- $digest := get $image.digests .service -}}
{{ $registry }}/adaserve-{{ .service }}{{ if $digest }}@{{ $digest }}{{ else }}:{{ $image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* An image that is not ours: (dict "root" $ "image" {registry, repository, tag, digest}). */}}
{{- define "adaserve.otherImage" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry -}}
{{ $registry }}/{{ .image.repository }}{{ if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag }}{{ end }}
{{- end }}

{{- define "adaserve.pullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.image.pullSecrets | uniq }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
