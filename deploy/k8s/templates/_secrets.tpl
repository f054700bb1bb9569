{{- define "adaserve.authSecret" -}}
{{ .Values.auth.existingSecret | default (printf "%s-auth" (include "adaserve.fullname" .)) }}
{{- end }}

{{/* `data` of a Secret with these keys: what the cluster has under the name, or random: (dict "root" $ "name" … "keys" […]). */}}
{{- define "adaserve.generated" -}}
{{- $present := (lookup "v1" "Secret" .root.Release.Namespace .name).data | default dict -}}
{{- range .keys }}
{{ . }}: {{ get $present . | default (randAlphaNum 40 | b64enc) | quote }}  # generated
{{- end }}
{{- end }}
