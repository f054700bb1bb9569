{{/* Of a pod: (dict "root" $ "service" … "services" […]). Each service has its own password, /tmp and /dev/shm.
Files of Secrets are the group's to read, which is the pod's fsGroup, and nobody else's. */}}
{{- define "adaserve.volumes" -}}
{{- range $service := .services }}
{{- $config := include "adaserve.config" (dict "root" $.root "service" $service) | fromYaml }}
- {name: tmp-{{ $service }}, emptyDir: {sizeLimit: {{ $config.tmpSize }}}}
{{- with $config.sharedMemory }}
- {name: shm-{{ $service }}, emptyDir: {medium: Memory, sizeLimit: {{ . }}}}
{{- end }}
{{- with $config.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- with include "adaserve.redisSecret" $.root }}
- name: redis-{{ $service }}
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: {{ $service }}-password, path: password}]
{{- end }}
{{- end }}
{{- with include "adaserve.redisCaSecret" .root }}
- name: redis-ca
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- if eq .service "gateway" }}
- name: auth
  secret:
    secretName: {{ include "adaserve.authSecret" .root }}
    defaultMode: 0440
    items: [{key: admin-key, path: admin-key}]
{{- with .root.Values.keys.existingSecret }}
- name: keys
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: keys.yaml, path: keys.yaml}]
{{- end }}
{{- with include "adaserve.policyConfigMap" .root }}
- {name: policy, configMap: {name: {{ . }}, items: [{key: policy.yaml, path: policy.yaml}]}}
{{- end }}
{{- end }}
{{- include "adaserve.modelVolumes" . }}
{{- end }}
