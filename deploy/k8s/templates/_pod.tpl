{{/* A pod of one or two services: (dict "root" $ "service" … "config" … "services" […]). */}}
{{- define "adaserve.podSpec" -}}
{{- $usesApi := and (eq .service "verifier") .config.podDeletionCost.enabled -}}
serviceAccountName: {{ include "adaserve.serviceAccount" . }}
automountServiceAccountToken: {{ $usesApi }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "adaserve.gracePeriod" . }}
{{- with include "adaserve.pullSecrets" .root }}
{{ . }}
{{- end }}
securityContext:
  {{- toYaml .config.podSecurityContext | nindent 2 }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "resourceClaims" }}
{{- with get $.config $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $key := list "priorityClassName" "runtimeClassName" "schedulerName" }}
{{- with get $.config $key }}
{{ $key }}: {{ . }}
{{- end }}
{{- end }}
{{- with .config.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- $own := dict "labelSelector" (dict "matchLabels" (include "adaserve.selector" $ | fromYaml)) }}
  {{- range . }}
  - {{ toYaml (ternary . (merge (deepCopy .) $own) (hasKey . "labelSelector")) | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- with include "adaserve.initContainers" . }}
initContainers:
  {{- . | nindent 2 }}
{{- end }}
containers:
  {{- range $service := .services }}
  {{- $config := include "adaserve.config" (dict "root" $.root "service" $service) | fromYaml }}
  - {{ include "adaserve.container" (dict "root" $.root "service" $service "config" $config) | nindent 4 | trim }}
  {{- end }}
  {{- with .config.sidecars }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
  {{- include "adaserve.volumes" . | nindent 2 }}
{{- end }}

{{/* Longer than all that happens before the end, of the slowest service in the pod. */}}
{{- define "adaserve.gracePeriod" -}}
{{- $longest := 0 -}}
{{- range $service := .services -}}
{{- $config := include "adaserve.config" (dict "root" $.root "service" $service) | fromYaml -}}
{{- $longest = max $longest (add $config.preStopSeconds $config.drainSeconds $config.marginSeconds) -}}
{{- end -}}
{{ $longest }}
{{- end }}

{{/* One that waits until what is to be fetched for this pod is there, and the operator's own. */}}
{{- define "adaserve.initContainers" -}}
{{- $paths := list -}}
{{- range $service := .services -}}
{{- $scope := dict "root" $.root "service" $service -}}
{{- if include "adaserve.isFetched" $scope -}}
{{- $paths = append $paths (include "adaserve.modelPath" (dict "root" $.root "role" (include "adaserve.role" $scope))) -}}
{{- end -}}
{{- end -}}
{{- if $paths -}}
- name: await-models
  image: {{ include "adaserve.image" . }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command:
    - python
    - -c
    - "import os, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\nwhile not all(map(os.path.isdir, sys.argv[1:])): time.sleep(1)"
    {{- toYaml $paths | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 32Mi}
    limits: {memory: 64Mi}
  securityContext:
    {{- toYaml .config.containerSecurityContext | nindent 4 }}
  volumeMounts:
    - {name: models, mountPath: /models/cache, readOnly: true}
{{- end }}
{{- with .config.initContainers }}
{{ toYaml . }}
{{- end }}
{{- end }}
