{{/*
What a strategic merge does to a Deployment, as far as the components need it: (list deployment patch).
Lists of things with names are merged by name, tolerations are appended, all else is overwritten.
*/}}
{{- define "opera.merge" -}}
{{- $pod := (index . 0).spec.template.spec -}}
{{- $more := (index . 1).spec.template.spec -}}
{{- include "opera.mergeContainer" (list (first $pod.containers) (first $more.containers)) -}}
{{- include "opera.mergeNamed" (list $pod $more "volumes") -}}
{{- include "opera.mergeNamed" (list $pod $more "initContainers") -}}
{{- if $more.tolerations -}}
{{- $_ := set $pod "tolerations" (concat ($pod.tolerations | default list) $more.tolerations) -}}
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
{{- $items := get $into $key | default list -}}
{{- range $new := get (index . 1) $key | default list -}}
{{- $found := false -}}
{{- range $old := $items -}}
{{- if eq $old.name $new.name -}}
{{- $found = true -}}
{{- $_ := mergeOverwrite $old $new -}}
{{- end -}}
{{- end -}}
{{- if not $found -}}
{{- $items = append $items $new -}}
{{- end -}}
{{- end -}}
{{- if $items -}}
{{- $_ := set $into $key $items -}}
{{- end -}}
{{- end -}}
