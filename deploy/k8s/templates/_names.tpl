{{/* Names and labels. Helpers that look at one service take (dict "root" $ "service" "gateway"). */}}

{{- define "adaserve.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "adaserve.fullname" -}}
{{- $name := include "adaserve.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "adaserve.componentName" -}}
{{ include "adaserve.fullname" .root }}-{{ .service }}
{{- end }}

{{/* What never changes in the life of a Deployment. */}}
{{- define "adaserve.selector" -}}
app.kubernetes.io/name: {{ include "adaserve.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end }}

{{- define "adaserve.labels" -}}
{{ include "adaserve.selector" . }}
app.kubernetes.io/part-of: adaserve
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The body of `metadata` of every object: (dict "root" $ "service" … "name" … "annotations" {…}). */}}
{{- define "adaserve.metadata" -}}
name: {{ .name | default (include "adaserve.componentName" .) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "adaserve.labels" . | nindent 2 }}
{{- with mergeOverwrite (deepCopy (.annotations | default dict)) (deepCopy .root.Values.commonAnnotations) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A service's values over the defaults of all; read it with fromYaml. */}}
{{- define "adaserve.config" -}}
{{ toYaml (mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy (get .root.Values.services .service))) }}
{{- end }}

{{- define "adaserve.port" -}}
{{ get (dict "gateway" 8000 "drafter" 9101 "selector" 9102 "verifier" 9103) .service }}
{{- end }}

{{- define "adaserve.serviceAccount" -}}
{{- $account := (include "adaserve.config" . | fromYaml).serviceAccount -}}
{{ $account.name | default (ternary (include "adaserve.componentName" .) "default" $account.create) }}
{{- end }}
