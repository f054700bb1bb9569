{{/* A service's container: (dict "root" $ "service" … "config" …). */}}
{{- define "adaserve.container" -}}
name: {{ .service }}
image: {{ include "adaserve.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: {{ .config.command | default (list "python" "-m" (printf "services.%s" .service)) | toJson }}
ports:
  - {name: {{ include "adaserve.portName" . }}, containerPort: {{ include "adaserve.port" . }}}
env:
  {{- include "adaserve.environment" . | nindent 2 }}
{{- range $name, $path := dict "startup" "/live" "liveness" "/live" "readiness" "/ready" }}
{{ $name }}Probe:
  httpGet: {path: {{ $path }}, port: {{ include "adaserve.portName" $ }}}
  {{- toYaml (get $.config.probes $name) | nindent 2 }}
{{- end }}
{{- if .config.preStopSeconds }}
lifecycle:
  preStop:  # lifecycle.preStop.sleep is newer than Kubernetes 1.27
    exec: {command: [python, -c, "import time; time.sleep({{ .config.preStopSeconds }})"]}
{{- end }}
resources:
  {{- toYaml .config.resources | nindent 2 }}
securityContext:
  {{- toYaml .config.containerSecurityContext | nindent 2 }}
volumeMounts:
  {{- include "adaserve.mounts" . | nindent 2 }}
{{- end }}

{{/* Secrets and files are whole directories: what is mounted by subPath is never brought up to date. */}}
{{- define "adaserve.mounts" -}}
- {name: tmp-{{ .service }}, mountPath: /tmp}
{{- if .config.sharedMemory }}
- {name: shm-{{ .service }}, mountPath: /dev/shm}
{{- end }}
{{- if include "adaserve.redisSecret" .root }}
- {name: redis-{{ .service }}, mountPath: /run/secrets/adaserve/redis, readOnly: true}
{{- end }}
{{- if include "adaserve.redisCaSecret" .root }}
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
{{- include "adaserve.modelMounts" . }}
{{- with .config.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
