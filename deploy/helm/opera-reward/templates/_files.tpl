{{/* The text of a file of kustomize/, named after the release: (list $ path). */}}
{{- define "opera.text" -}}
{{- $root := index . 0 -}}
{{- $path := printf "kustomize/%s" (index . 1) -}}
{{- $text := $root.Files.Get $path | required (printf "the chart lacks %s" $path) -}}
{{/* These keep the word: they say what the thing is, not what this release is called. */}}
{{- range $kept := list "app.kubernetes.io/name: %s" "job=\"%s\"" "%s/client" "%s/active" "%s/vllm" "image: %s" "engine-type: %s" "`%s serve`" -}}
{{- $text = $text | replace (printf $kept "opera-reward") (printf $kept "@") -}}
{{- end -}}
{{/* These have names of their own. */}}
{{- $values := $root.Values -}}
{{- $text = $text | replace "opera-reward-keys" "@1" | replace "opera-reward-hub" "@2" -}}
{{- $text = $text | replace "opera-reward" $root.Release.Name -}}
{{- $text = $text | replace "@1" $values.keysSecret | replace "@2" $values.hubSecret -}}
{{/* What kustomize calls variables. */}}
{{- $text = $text | replace "$(OPERA_NAMESPACE)" $root.Release.Namespace | replace "$(OPERA_SERVICE)" $root.Release.Name -}}
{{- $text = $text | replace "$(OPERA_GPUS)" ($values.gpu.count | int | toString) -}}
{{- $text | replace "@" "opera-reward" -}}
{{- end -}}

{{/* The one object of a file: (list $ path). */}}
{{- define "opera.object" -}}
{{- include "opera.text" . | fromYaml | toYaml -}}
{{- end -}}

{{/* Print an object with the labels that all objects have: (list $ object). */}}
{{- define "opera.emit" -}}
{{- $root := index . 0 -}}
{{- $object := index . 1 -}}
{{- with $root.Values.labels -}}
{{- $_ := set $object.metadata "labels" (merge (dict) ($object.metadata.labels | default dict) .) -}}
{{- end }}
---
{{ toYaml $object }}
{{- end -}}

{{/* Print every object of a file as it is: (list $ path). */}}
{{- define "opera.emitFile" -}}
{{- $root := index . 0 -}}
{{- range splitList "\n---\n" (include "opera.text" .) -}}
{{- include "opera.emit" (list $root (fromYaml .)) -}}
{{- end -}}
{{- end -}}

{{/* `KEY=value` lines of a file of kustomize/, as a map: (list $ path). */}}
{{- define "opera.env" -}}
{{- $env := dict -}}
{{- range $line := splitList "\n" ((index . 0).Files.Get (printf "kustomize/%s" (index . 1))) -}}
{{- if contains "=" $line -}}
{{- $pair := splitn "=" 2 $line -}}
{{- $_ := set $env $pair._0 $pair._1 -}}
{{- end -}}
{{- end -}}
{{- toYaml $env -}}
{{- end -}}

{{/* The service's environment: base, what model and endpoint picker ask for, then the values. */}}
{{- define "opera.settings" -}}
{{- $env := include "opera.env" (list . "base/settings.env") | fromYaml -}}
{{- if .Values.model.parametersB -}}
{{- $_ := set $env "OPERA_MAX_WEIGHTS_GB" (get (include "opera.sizes" . | fromYaml) "pushGi" | int64 | toString) -}}
{{- end -}}
{{- if .Values.inferencePool.enabled -}}
{{- $_ := set $env "OPERA_OPEN_METRICS" "true" -}}
{{- end -}}
{{- range $name, $value := .Values.settings -}}
{{- $_ := set $env $name (toString $value) -}}
{{- end -}}
{{- toYaml $env -}}
{{- end -}}

{{/* Give a container the image of the values: (list $ container). */}}
{{- define "opera.image" -}}
{{- $root := index . 0 -}}
{{- $_ := set (index . 1) "image" (printf "%s:%s" $root.Values.image.repository ($root.Values.image.tag | default $root.Chart.AppVersion)) -}}
{{- $_ := set (index . 1) "imagePullPolicy" $root.Values.image.pullPolicy -}}
{{- end -}}
