{{/*
What follows from the model's size, in GiB and seconds: docs/deploy.md (Sizes) says why. Disks are taken to give
100 MiB/s, and the hub as much: the least that EKS and GKE promise for their default volumes of that size.
*/}}
{{- define "opera.sizes" -}}
{{- $model := .Values.model -}}
{{- $weights := divf (mulf $model.parametersB $model.bytesPerParameter 1000000000) 1073741824 | ceil -}}
{{- $read := divf (mulf $weights 1024) 100 | ceil -}}
{{- $start := max 1200 (addf 600 $read | int64) -}}
{{- $cache := max 100 (addf (mulf 2 $weights) 20 | int64) -}}
{{- $copy := addf (mulf 1.1 $weights | ceil) 10 | int64 -}}
{{- $shared := eq .Values.modelCache.volume "shared" -}}
{{- $disk := ternary (add $cache $copy) $cache (eq .Values.modelCache.volume "pod") -}}
weightsGi: {{ $weights }}
pushGi: {{ mulf 1.1 $weights | ceil }}
{{/* A shared volume holds the revision before, too, while its pods read it. */}}
modelsGi: {{ ternary (mul 2 $copy) $copy $shared }}
cacheGi: {{ $cache }}
diskGi: {{ $disk }}
startFailures: {{ divf $start 5 | ceil }}
progressSeconds: {{ max 1500 (add ($read | int64) (mul 5 (divf $start 5 | ceil | int64)) 300) }}
{{- end -}}

{{/* A Deployment for the values' model and number of GPUs, in place: (list $ deployment). */}}
{{- define "opera.size" -}}
{{- $root := index . 0 -}}
{{- $spec := (index . 1).spec -}}
{{- $pod := $spec.template.spec -}}
{{- $resources := (first $pod.containers).resources -}}
{{- if $root.Values.gpu.enabled -}}
{{- $count := $root.Values.gpu.count | int -}}
{{- $_ := set $resources.limits "nvidia.com/gpu" (toString $count) -}}
{{- $_ := set $resources.limits "memory" (printf "%dGi" (add 48 (mul 16 $count))) -}}
{{- $_ := set $resources.requests "memory" (printf "%dGi" (add 24 (mul 8 $count))) -}}
{{- $_ := set $resources.requests "cpu" (add 2 (mul 2 $count) | toString) -}}
{{- end -}}
{{- if $root.Values.model.parametersB -}}
{{- $sizes := include "opera.sizes" $root | fromYaml -}}
{{- $_ := set $spec "progressDeadlineSeconds" (int64 $sizes.progressSeconds) -}}
{{- $_ := set (first $pod.containers).startupProbe "failureThreshold" (int64 $sizes.startFailures) -}}
{{- $_ := set $resources.requests "ephemeral-storage" (printf "%dGi" (int64 $sizes.diskGi)) -}}
{{- range $pod.volumes -}}
{{- if eq .name "cache" -}}
{{- $_ := set .emptyDir "sizeLimit" (printf "%dGi" (int64 $sizes.cacheGi)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* How large the volume of models is. */}}
{{- define "opera.modelsSize" -}}
{{- if .Values.modelCache.size -}}
{{- .Values.modelCache.size -}}
{{- else if .Values.model.parametersB -}}
{{- printf "%dGi" (get (include "opera.sizes" . | fromYaml) "modelsGi" | int64) -}}
{{- else -}}
100Gi
{{- end -}}
{{- end -}}

{{/* Class, access modes and size of a claim for models, in place: (list $ claimSpec). */}}
{{- define "opera.claim" -}}
{{- $root := index . 0 -}}
{{- $claim := index . 1 -}}
{{- with $root.Values.modelCache.storageClassName -}}{{- $_ := set $claim "storageClassName" . -}}{{- end -}}
{{- with $root.Values.modelCache.accessModes -}}{{- $_ := set $claim "accessModes" . -}}{{- end -}}
{{- end -}}
