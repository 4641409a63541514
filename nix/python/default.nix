# Wheels -> store paths -> environments for `host`, assembled on `build`.
{ host, base, fetch }:
let
  inherit (base) runCommand sysroot patchelf;
  libraries = "${sysroot}/usr/lib/${host.triple}";
  buildWheel = name: builtins.head (builtins.filter (wheel: wheel.name == name) (fetch.wheels "build" host.system));

  # One wheel, unpacked, with bytecode; its programs run on the sysroot.
  unpackWheel = { name, version, src }: runCommand "${name}-${version}"
    {
      PYTHONPATH = (buildWheel "installer").src;
      PATCHELF = "${patchelf}/bin/patchelf";
      LOADER = "${libraries}/${baseNameOf host.loader}";
      LIBRARIES = libraries;
    } ''
    wheel=${src}
    ln -s "$wheel" "''${wheel#*-}" # installer reads name and version off the file's name
    python3 -B ${./unpack.py} "''${wheel#*-}" "$out"
  '';

in
{
  inherit unpackWheel;

  # A source tree of ours with a pyproject.toml -> its wheel, by flit.
  buildWheel = { name, version, source }: runCommand "${name}-${version}.whl"
    {
      PYTHONPATH = (buildWheel "flit-core").src;
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

  # A virtual environment of the given unpacked wheels.
  environment = name: wheels: runCommand name { inherit wheels; } ''
    tr ' ' '\n' <<< "$wheels" > wheels
    python3 -B ${./environment.py} "$out" ${sysroot}/usr/bin/python3.11 wheels
  '';
}
