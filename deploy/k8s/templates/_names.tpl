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

{{/* Of the pods that a service runs in: those of the verifier, for a drafter in its pods. */}}
{{- define "adaserve.podSelector" -}}
{{- $host := ternary .service "verifier" (empty (include "adaserve.isHosted" .)) -}}
{{ include "adaserve.selector" (dict "root" .root "service" $host) }}
{{- end }}

{{/* Of a pod: without the chart's version, so that another one alone replaces no pod. "more" are the pod's own. */}}
{{- define "adaserve.podLabels" -}}
{{ include "adaserve.selector" . }}
app.kubernetes.io/part-of: adaserve
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- with mergeOverwrite (deepCopy .root.Values.commonLabels) (.more | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "adaserve.labels" -}}
{{ include "adaserve.podLabels" (dict "root" .root "service" .service) }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The body of an object's `metadata`: (dict "root" $ "service" …), besides "name" and "annotations" where they differ. */}}
{{- define "adaserve.metadata" -}}
name: {{ .name | default (include "adaserve.componentName" .) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "adaserve.labels" . | nindent 2 }}
{{- with mergeOverwrite (deepCopy (.annotations | default dict)) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A service's values over the defaults of all; read it with fromYaml. */}}
{{- define "adaserve.config" -}}
{{ toYaml (mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy (get .root.Values.services .service))) }}
{{- end }}

{{- define "adaserve.services" -}}
[gateway, drafter, selector, verifier]
{{- end }}

{{/* "true" for a drafter that runs in the verifiers' pods, which then has no Deployment and nothing that scales it. */}}
{{- define "adaserve.isHosted" -}}
{{- if and (eq .service "drafter") .root.Values.services.drafter.inVerifierPod }}true{{ end -}}
{{- end }}

{{- define "adaserve.port" -}}
{{ get (dict "gateway" 8000 "drafter" 9101 "selector" 9102 "verifier" 9103) .service }}
{{- end }}

{{/* Names of ports are those of a pod, so a hosted drafter's is another one. */}}
{{- define "adaserve.portName" -}}
{{ ternary "http" "http-drafter" (empty (include "adaserve.isHosted" .)) }}
{{- end }}

{{- define "adaserve.serviceAccount" -}}
{{- $account := (include "adaserve.config" . | fromYaml).serviceAccount -}}
{{ $account.name | default (ternary (include "adaserve.componentName" .) "default" $account.create) }}
{{- end }}
