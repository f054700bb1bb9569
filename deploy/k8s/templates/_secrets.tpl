{{- define "adaserve.authSecret" -}}
{{ .Values.auth.existingSecret | default (printf "%s-auth" (include "adaserve.fullname" .)) }}
{{- end }}

{{/* The Secret with a password for each user; empty where Redis asks for none. */}}
{{- define "adaserve.redisSecret" -}}
{{- if .Values.redis.enabled -}}
{{ .Values.redis.auth.existingSecret | default (printf "%s-redis-auth" (include "adaserve.fullname" .)) }}
{{- else -}}
{{ .Values.externalRedis.existingSecret }}
{{- end -}}
{{- end }}

{{- define "adaserve.redisCaSecret" -}}
{{- if not .Values.redis.enabled }}{{ .Values.externalRedis.tls.caSecret }}{{ end -}}
{{- end }}

{{- define "adaserve.policyConfigMap" -}}
{{- if .Values.policy.existingConfigMap -}}
{{ .Values.policy.existingConfigMap }}
{{- else if .Values.policy.inline -}}
{{ include "adaserve.fullname" . }}-policy
{{- end -}}
{{- end }}

{{/* Whom a first key may be made for. */}}
{{- define "adaserve.aTenant" -}}
{{- $tenants := (.Values.policy.inline | fromYaml).tenants -}}
{{- if .Values.policy.existingConfigMap -}}
TENANT-OF-YOUR-POLICY
{{- else if and $tenants (kindIs "map" $tenants) -}}
{{ keys $tenants | sortAlpha | first }}
{{- else -}}
default
{{- end -}}
{{- end }}

{{/* `data` of a Secret: what the cluster has under the name already, else random: (dict "root" $ "name" … "keys" […]). */}}
{{- define "adaserve.generated" -}}
{{- $present := (lookup "v1" "Secret" .root.Release.Namespace .name).data | default dict -}}
{{- range .keys }}
{{ . }}: {{ get $present . | default (randAlphaNum 40 | b64enc) | quote }}  # generated
{{- end }}
{{- end }}
