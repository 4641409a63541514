# Wheels -> store paths -> environments for `host`, assembled on `build`.
{ build, host, base, fetch }:
let
  inherit (base) runCommand sysroot patchelf;
  libraries = "${sysroot}/usr/lib/${host.triple}";
  licences = import ../sbom/licences.nix;
  pureWheel = fetch.wheel "build" build.system;

  # One wheel, unpacked, with bytecode; its programs run on the sysroot.
  unpackWheel = { name, version, src, ... }: runCommand "${name}-${version}"
    {
      PYTHONPATH = (pureWheel "installer").src;
      PATCHELF = "${patchelf}/bin/patchelf";
      LOADER = "${libraries}/${baseNameOf host.loader}";
      LIBRARIES = libraries;
    } ''
    python3 -B ${./unpack.py} ${src} "$out"
  '' // (if licences ? ${name} then { meta.license = licences.${name}; } else { });

in
{
  inherit unpackWheel;

  # A source tree of ours with a pyproject.toml -> its wheel, by flit.
  wheelOf = { name, version, source }: runCommand "${name}-${version}.whl"
    {
      PYTHONPATH = (pureWheel "flit-core").src;
      SOURCE_DATE_EPOCH = "315532800"; # the first second that a zip file can hold
    } ''
    cp -r ${source} source
    chmod -R u+w source
    cd source
    mkdir dist
    python3 -B -m flit_core.wheel --outdir dist
    mkdir "$out"
    cp dist/*.whl "$out/"
  '';

  overlay = import ./overlay.nix { inherit runCommand unpackWheel; };

  # A virtual environment of unpacked wheels.
  environment = { name, wheels, overlays ? [ ] }: runCommand name { inherit wheels overlays; } ''
    echo "$wheels" > wheels
    echo "$overlays" > overlays
    python3 -B ${./environment.py} "$out" ${sysroot}/usr/bin/python3.11 overlays wheels
  '';
}
