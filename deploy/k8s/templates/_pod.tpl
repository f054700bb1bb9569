{{/* A service's container: (dict "root" $ "service" … "config" …). */}}
{{- define "adaserve.container" -}}
name: {{ .service }}
image: {{ include "adaserve.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: ["python", "-m", "services.{{ .service }}"]
ports:
  - {name: http, containerPort: {{ include "adaserve.port" . }}}
env:
  {{- include "adaserve.environment" . | nindent 2 }}
{{- range $name, $path := dict "startup" "/live" "liveness" "/live" "readiness" "/ready" }}
{{ $name }}Probe:
  httpGet: {path: {{ $path }}, port: http}
  {{- toYaml (get $.config.probes $name) | nindent 2 }}
{{- end }}
{{- if .config.preStopSeconds }}
lifecycle:
  preStop:
    exec: {command: ["sleep", {{ .config.preStopSeconds | quote }}]}
{{- end }}
resources:
  {{- toYaml .config.resources | nindent 2 }}
securityContext:
  {{- include "adaserve.containerSecurity" . | nindent 2 }}
volumeMounts:
  {{- include "adaserve.mounts" . | nindent 2 }}
{{- end }}

{{- define "adaserve.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if include "adaserve.redisSecret" .root }}
- {name: redis-{{ .service }}, mountPath: /run/secrets/adaserve/redis, readOnly: true}
{{- end }}
{{- if and (not .root.Values.redis.enabled) .root.Values.externalRedis.tls.caSecret }}
- {name: redis-ca, mountPath: /run/secrets/adaserve/redis-ca, readOnly: true}
{{- end }}
{{- if eq .service "gateway" }}
- {name: auth, mountPath: /run/secrets/adaserve/auth, readOnly: true}
{{- if .root.Values.keys.existingSecret }}
- {name: keys, mountPath: /run/secrets/adaserve/keys, readOnly: true}
{{- end }}
{{- if include "adaserve.policyConfigMap" .root }}
- {name: policy, mountPath: /etc/adaserve/policy, readOnly: true}
{{- end }}
{{- end }}
{{- with .config.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "adaserve.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 256Mi}}
{{- with include "adaserve.redisSecret" .root }}
- name: redis-{{ $.service }}
  secret:
    secretName: {{ . }}
    items: [{key: {{ $.service }}-password, path: password}]
{{- end }}
{{- if and (not .root.Values.redis.enabled) .root.Values.externalRedis.tls.caSecret }}
- name: redis-ca
  secret:
    secretName: {{ .root.Values.externalRedis.tls.caSecret }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- if eq .service "gateway" }}
- name: auth
  secret:
    secretName: {{ include "adaserve.authSecret" .root }}
    items: [{key: admin-key, path: admin-key}]
{{- with .root.Values.keys.existingSecret }}
- {name: keys, secret: {secretName: {{ . }}}}
{{- end }}
{{- with include "adaserve.policyConfigMap" .root }}
- {name: policy, configMap: {name: {{ . }}}}
{{- end }}
{{- end }}
{{- with .config.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
