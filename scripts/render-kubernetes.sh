#!/usr/bin/env bash
# Renders deploy/kubernetes/ from the chart: render-kubernetes.sh HELM [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
helm=$1 folder=${2:-deploy/kubernetes}

rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT
# The version that is rendered for matters only for kubeVersion in Chart.yaml.
"$helm" template portcullis deploy/helm/portcullis --namespace portcullis --kube-version 1.34.0 \
    --values deploy/helm/kubernetes-values.yaml --output-dir "$rendered" >/dev/null 2>"$rendered/messages" ||
    { cat "$rendered/messages" >&2; exit 1; }
for file in "$rendered"/portcullis/templates/*.yaml; do
    # Without the labels that say that Helm manages an object, and Helm's comments.
    sed -e '1{/^---$/d}' -e '/^# Source: /d' -e '/^ *app.kubernetes.io\/managed-by: Helm$/d' \
        -e '/^ *helm.sh\/chart: /d' -e 's/ *$//' "$file" \
        >"$folder/$(basename "$file")"
done
