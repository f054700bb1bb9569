{{- define "adaserve.redisUsers" -}}
[gateway, drafter, selector, verifier, operator, exporter]
{{- end }}

{{- define "adaserve.redisUsersFile" -}}
{{ .Files.Get "files/users.acl" | replace "__CELL__" .Values.cell | trim }}
{{- end }}

{{/* Nothing is evicted, since a key is a request; a power loss may cost two seconds, which are restored. */}}
{{- define "adaserve.redisConfiguration" -}}
bind * -::*
port 6379
dir /data
aclfile /run/redis/users.acl
maxmemory {{ .Values.redis.maxMemory }}
maxmemory-policy noeviction
save ""
appendonly {{ ternary "yes" "no" .Values.redis.persistence.enabled }}
appendfsync everysec
{{- with .Values.redis.extraConfig }}
{{ . }}
{{- end }}
{{- end }}

{{/* A container's limit as it is written, or nothing: of its `resources`. */}}
{{- define "adaserve.memoryLimit" -}}
{{- $limit := dig "limits" "memory" "" . -}}
{{ if kindIs "string" $limit }}{{ $limit }}{{ else }}{{ int64 $limit }}{{ end }}
{{- end }}

{{/* A number of bytes as Redis or Kubernetes write it: 704mb, 1.5Gi, 512M. */}}
{{- define "adaserve.bytes" -}}
{{- $units := dict "" 1 "k" 1e3 "m" 1e6 "g" 1e9 "t" 1e12 "p" 1e15 "kb" 1024 "mb" 1048576 "gb" 1073741824 "ki" 1024 "mi" 1048576 "gi" 1073741824 "ti" 1099511627776 "pi" 1125899906842624 -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{ mulf (float64 $number) (get $units (trimPrefix $number . | lower) | float64) | int64 }}
{{- end }}

{{/* As the user that may do nothing but this. The client is named like the server: valkey-cli, redis-cli. */}}
{{- define "adaserve.redisPing" -}}
REDISCLI_AUTH="$(cat /run/secrets/adaserve/probe/password)" {{ first .Values.redis.command | replace "-server" "-cli" }} --user exporter --no-auth-warning ping | grep -q PONG
{{- end }}
