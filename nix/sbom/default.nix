# A product -> `sbom.cdx.json`, its bill of materials in CycloneDX: each pin with its hash and its licence.
#
# `tools`: an environment of the build platform with the wheels of the group "sbom".
{ product, fetch, tools }:
let
  inherit (product) host base vllm;
  inherit (import ../source.nix) source;
  debian = builtins.fromJSON (builtins.readFile ../pins/debian.json);
  pypi = builtins.fromJSON (builtins.readFile ../pins/pypi.json);
  inherit (builtins.fromTOML (builtins.readFile ../../python/pyproject.toml)) project;

  files = debian.groups.base.${host.system};
  debs = fetch.debs "base" host.system;

  patchesOf = overlay: map
    (patch: { file = "patches/${overlay.project}/${baseNameOf patch}"; project = overlay.pin.name; path = "${patch}"; })
    overlay.patches;
in
base.runCommand "sbom-${host.system}"
{
  manifest = builtins.toJSON {
    inherit (host) system;
    inherit (debian) suite;
    own = { inherit (project) name version license; };
    debs = builtins.genList
      (i:
        let file = builtins.elemAt files i; in
        { inherit file; inherit (debian.files.${file}) name version sha256; path = "${builtins.elemAt debs i}"; })
      (builtins.length files);
    wheels = map
      (pin: { inherit (pin) file name version; inherit (pypi.files.${pin.file}) sha256; path = "${pin.src}"; })
      vllm.pins;
    patches = builtins.concatMap patchesOf vllm.overlays;
  };
  passAsFile = [ "manifest" ];
} ''
  cp -r ${source ./.} sbom
  mkdir "$out"
  ${tools}/bin/python -B -m sbom.sbom "$manifestPath" "$out/sbom.cdx.json"
''
