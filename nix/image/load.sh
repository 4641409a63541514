# Streams the image, a layout directory whose blobs are links, into whichever engine is there (or the one named).
set -euo pipefail
engine=${1:-}
for candidate in docker podman; do
  [ -n "$engine" ] || ! command -v "$candidate" >/dev/null || engine=$candidate
done
if [ -z "$engine" ]; then
  echo "error: there is neither docker nor podman on PATH: install one, or copy the layout yourself: @image@" >&2
  exit 1
fi
if ! command -v "$engine" >/dev/null; then
  echo "error: there is no $engine on PATH: name docker or podman, or leave it out" >&2
  exit 1
fi
tar --create --dereference --directory @image@ blobs index.json manifest.json oci-layout | "$engine" load
