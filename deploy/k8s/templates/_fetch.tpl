{{/* The pod that fetches hf:// models into the cache claim. The gateway's image has the hub's client and is the smallest. */}}
{{- define "adaserve.fetchingPod" -}}
{{- $hub := .Values.models.hub -}}
{{- $scope := dict "root" . "service" "models" -}}
metadata:
  labels:
    {{- include "adaserve.podLabels" $scope | nindent 4 }}
spec:
  restartPolicy: OnFailure
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with include "adaserve.pullSecrets" . }}
  {{- . | nindent 2 }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.defaults.podSecurityContext | nindent 4 }}
  containers:
    - name: fetch
      image: {{ include "adaserve.image" (dict "root" . "service" "gateway") }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command:
        - python
        - /etc/adaserve/fetch/fetch_model.py
        {{- range $role := list "target" "draft" }}
        {{- if hasPrefix "hf://" (get $.Values.models $role) }}
        - {{ get $.Values.models $role | trimPrefix "hf://" }}
        - {{ include "adaserve.modelPath" (dict "root" $ "role" $role) }}
        {{- end }}
        {{- end }}
      env:
        - {name: HF_ENDPOINT, value: {{ $hub.endpoint | quote }}}
        - {name: HF_HOME, value: /models/cache/.hub}  # parts of downloads: too much for /tmp
        {{- if $hub.existingSecret }}
        - {name: HF_TOKEN_PATH, value: /run/secrets/adaserve/hub/token}
        {{- end }}
        - {name: HOME, value: /tmp}
      resources:
        {{- toYaml $hub.resources | nindent 8 }}
      securityContext:
        {{- toYaml .Values.defaults.containerSecurityContext | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: models, mountPath: /models/cache}
        - {name: script, mountPath: /etc/adaserve/fetch, readOnly: true}
        {{- if $hub.existingSecret }}
        - {name: hub, mountPath: /run/secrets/adaserve/hub, readOnly: true}
        {{- end }}
  volumes:
    - {name: tmp, emptyDir: {sizeLimit: 256Mi}}
    - {name: models, persistentVolumeClaim: {claimName: {{ include "adaserve.cacheClaim" . }}}}
    - {name: script, configMap: {name: {{ include "adaserve.componentName" $scope }}}}
    {{- with $hub.existingSecret }}
    - {name: hub, secret: {secretName: {{ . }}, defaultMode: 0440, items: [{key: token, path: token}]}}
    {{- end }}
{{- end }}
