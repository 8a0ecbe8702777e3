{{/* The file of kustomize/ at a path, as an object: (list $ path). Named after the release. */}}
{{- define "opera.object" -}}
{{- $root := index . 0 -}}
{{- $path := printf "kustomize/%s" (index . 1) -}}
{{- $text := $root.Files.Get $path | required (printf "the chart lacks %s" $path) -}}
{{/* These keep the word: they say what the thing is, not what this release is called. */}}
{{- range $kept := list "app.kubernetes.io/name: %s" "job=\"%s\"" "%s/client" "image: %s" "`%s serve`" -}}
{{- $text = $text | replace (printf $kept "opera-reward") (printf $kept "@") -}}
{{- end -}}
{{- $text = $text | replace "namespace=\"opera-reward\"" (printf "namespace=\"%s\"" $root.Release.Namespace) -}}
{{- $text = $text | replace "opera-reward-keys" "@@" -}}
{{- $text = $text | replace "opera-reward" $root.Release.Name | replace "@@" $root.Values.keysSecret -}}
{{- $text | replace "@" "opera-reward" -}}
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

{{/* The service's environment: base, then the values. */}}
{{- define "opera.settings" -}}
{{- $env := include "opera.env" (list . "base/settings.env") | fromYaml -}}
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
