{{/* What pods of other people's programs have in common. */}}
{{- define "adaserve.plainPod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with include "adaserve.pullSecrets" . }}
{{ . }}
{{- end }}
securityContext:
  {{- toYaml .Values.defaults.podSecurityContext | nindent 2 }}
{{- end }}

{{/* That a port is open, by its name: what paths such programs answer at differs from release to release. */}}
{{- define "adaserve.plainProbes" -}}
startupProbe: {tcpSocket: {port: {{ . }}}, periodSeconds: 2, failureThreshold: 60}
readinessProbe: {tcpSocket: {port: {{ . }}}, periodSeconds: 5}
livenessProbe: {tcpSocket: {port: {{ . }}}, periodSeconds: 10, failureThreshold: 6}
{{- end }}
