# The documents as a site. A link that leads nowhere fails the build.
{ base, python, fetch, system }:
let
  inherit (import ../source.nix) source;
  tools = python.environment { name = "docs-tools"; wheels = map python.unpackWheel (fetch.wheels "docs" system); };
in
base.runCommand "docs" { } ''
  mkdir -p site/pages/kernels
  cp ${./mkdocs.yml} site/mkdocs.yml
  cp ${../../README.md} site/pages/README.md
  cp ${../../CONTRIBUTING.md} site/pages/CONTRIBUTING.md
  cp ${../../LICENSE} site/pages/LICENSE
  cp -r --no-preserve=mode ${source ../../docs} site/pages/docs
  rm -r site/pages/docs/generator
  cp ${../../kernels/README.md} site/pages/kernels/README.md
  cp -r --no-preserve=mode ${source ../../kernels/results} site/pages/kernels/results
  cp -r --no-preserve=mode ${source ../../findings} site/pages/findings
  cd site
  export NO_MKDOCS_2_WARNING=1 SOURCE_DATE_EPOCH=1
  ${tools}/bin/mkdocs build --strict --site-dir "$out"
''
