# How the image runs: sourced with $out, $UMOCI, $BASE, $PINS, $architecture, $created, $revision and $version set.
stamp=$(date --utc --date="@$created" +%FT%TZ)
environment=(
  PATH=/bin:$BASE/usr/bin
  HOME=/cache
  USER=vllm # torch.compile asks for a name, and a user that docker was given may have none
  TMPDIR=/tmp
  HF_HOME=/cache/huggingface
  XDG_CACHE_HOME=/cache
  SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
  HOST=0.0.0.0 # of the container; what is published of it is docker's to say
  PORT=8888
  # nvidia-container-toolkit reads these three.
  NVIDIA_VISIBLE_DEVICES=all
  NVIDIA_DRIVER_CAPABILITIES=compute,utility
  "NVIDIA_REQUIRE_CUDA=cuda>=13.0"
)
labels=(
  org.opencontainers.image.title=dgx-vllm
  "org.opencontainers.image.description=vLLM for NVIDIA DGX Spark (GB10)"
  org.opencontainers.image.version="$version"
  org.opencontainers.image.revision="$revision"
  org.opencontainers.image.created="$stamp"
  dgx-vllm.pins.pypi.sha256="${PINS%-*}"
  dgx-vllm.pins.debian.sha256="${PINS#*-}"
)
settings=()
for variable in "${environment[@]}"; do settings+=(--config.env "$variable"); done
for label in "${labels[@]}"; do settings+=(--config.label "$label"); done
"$UMOCI" config --image "$out:latest" --no-history --created "$stamp" --architecture "$architecture" --os linux \
  --config.user 1000:1000 --config.workingdir /cache --config.volume /cache --config.exposedports 8888/tcp \
  --config.entrypoint /bin/entrypoint --config.cmd serve --config.stopsignal SIGTERM "${settings[@]}"
"$UMOCI" gc --layout "$out"
