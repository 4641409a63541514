# Files of an unpacked wheel as a project's patches leave them, and nothing else: environments put them over the wheel's
# own, so that touching a patch unpacks nothing again.
{ runCommand, unpackWheel }:
{ project, pin, patches }:
runCommand "${project}-patched" { inherit patches; wheel = unpackWheel pin; } ''
  site=$out/lib/python3.11/site-packages
  mkdir -p "$site"
  cd "$site"
  notices=$NIX_BUILD_TOP/notices
  touch "$notices"
  for patch in $patches; do
    name=''${patch##*/}
    name=patches/${project}/''${name#*-}
    sed -n 's,^+++ b/\([^[:space:]]*\).*,\1,p' "$patch" | while read -r file; do
      [ -e "$file" ] || [ ! -e "$wheel/lib/python3.11/site-packages/$file" ] || {
        mkdir -p "$(dirname "$file")"
        cp --no-preserve=mode "$wheel/lib/python3.11/site-packages/$file" "$file"
      }
      case $file in # Apache 2.0, 4(b): a changed file says so
        *.py) echo "$file # Changed by dgx-vllm: $name" >> "$notices" ;;
        *) echo "$name changes $file, whose comments nix/python/overlay.nix does not know: its notice of the change is missing" >&2; exit 1 ;;
      esac
    done
    patch --strip=1 --no-backup-if-mismatch --fuzz=0 --silent < "$patch" || {
      echo "$name no longer applies to ${project}" >&2
      exit 1
    }
  done
  while read -r file notice; do echo "$notice" >> "$file"; done < "$notices"
  python3 -B -m compileall -q -s "$out" --invalidation-mode unchecked-hash .
'' // { inherit project pin; }
