{{/*
What a strategic merge does to a Deployment, as far as the components need it: (list $ deployment path).
Lists of things with names are merged by name (of a volume the new one counts, whole), tolerations are appended, all
else is overwritten.
*/}}
{{- define "opera.merge" -}}
{{- $deployment := index . 1 -}}
{{- $patch := include "opera.object" (list (index . 0) (index . 2)) | fromYaml -}}
{{- $_ := mergeOverwrite $deployment.metadata $patch.metadata -}}
{{- with $patch.spec -}}
{{- $_ := mergeOverwrite $deployment.spec.template.metadata (.template.metadata | default dict) -}}
{{- $pod := $deployment.spec.template.spec -}}
{{- $more := .template.spec | default dict -}}
{{- with $more.containers -}}
{{- include "opera.mergeContainer" (list (first $pod.containers) (first .)) -}}
{{- end -}}
{{- include "opera.mergeNamed" (list $pod $more "volumes") -}}
{{- include "opera.mergeNamed" (list $pod $more "initContainers") -}}
{{- if $more.tolerations -}}
{{- $_ := set $pod "tolerations" (concat ($pod.tolerations | default list) $more.tolerations) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "opera.mergeContainer" -}}
{{- $into := index . 0 -}}
{{- $from := index . 1 -}}
{{- include "opera.mergeNamed" (list $into $from "env") -}}
{{- include "opera.mergeNamed" (list $into $from "volumeMounts") -}}
{{- $_ := mergeOverwrite $into (omit $from "env" "volumeMounts") -}}
{{- end -}}

{{- define "opera.mergeNamed" -}}
{{- $into := index . 0 -}}
{{- $key := index . 2 -}}
{{- $items := list -}}
{{- $found := list -}}
{{- range $old := get $into $key | default list -}}
{{- $kept := $old -}}
{{- range $new := get (index $ 1) $key | default list -}}
{{- if eq $old.name $new.name -}}
{{- $found = append $found $new.name -}}
{{- if eq $key "volumes" -}}
{{- $kept = dict -}}
{{- range $field, $value := $new -}}
{{- if ne $value nil -}}{{- $_ := set $kept $field $value -}}{{- end -}}
{{- end -}}
{{- else -}}
{{- $kept = mergeOverwrite $old $new -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $items = append $items $kept -}}
{{- end -}}
{{- range $new := get (index . 1) $key | default list -}}
{{- if not (has $new.name $found) -}}
{{- $items = append $items $new -}}
{{- end -}}
{{- end -}}
{{- if $items -}}
{{- $_ := set $into $key $items -}}
{{- end -}}
{{- end -}}
