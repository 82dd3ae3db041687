{{- define "closetrace.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) }}
{{- $name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "closetrace.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "closetrace.labels" -}}
{{ include "closetrace.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "closetrace.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}
{{- else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The configuration, with the port of the chart: the probes and the PodMonitor use it. It listens on every address,
because that of a pod may be an IPv6 one. */}}
{{- define "closetrace.config" -}}
{{- if hasKey .Values.config "listen" }}{{ fail "config.listen: set port instead" }}{{ end }}
{{- $set := dict "listen" (printf ":%d" (int .Values.port)) }}
{{- if .Values.containerNames.enabled }}{{ $set = set $set "container-names" true }}{{ end }}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $set) }}
{{- end }}
