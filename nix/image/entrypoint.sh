# The image's modes; arguments go on to what a mode starts.
set -euo pipefail

fail() {
  echo "error: $1" >&2
  exit 2
}

ray=@environment@/bin/ray
ready=(--ready-file /tmp/dgx-vllm.json) # the health check reads it
mode=${1:-serve}
case $mode in
  serve | -*)
    [ "$mode" != serve ] || shift || true
    exec dgx-vllm serve "${ready[@]}" "$@"
    ;;
  ray-head)
    # Two Sparks by default, one GPU each; vLLM waits until as many have joined.
    shift
    [ -x "$ray" ] || fail "ray-head: this image is the CPU build and has no Ray: use the aarch64 image"
    "$ray" start --head --port="${RAY_PORT:-6379}" --disable-usage-stats
    exec dgx-vllm serve "${ready[@]}" --distributed-executor-backend ray --tensor-parallel-size "${TENSOR_PARALLEL_SIZE:-2}" "$@"
    ;;
  ray-worker)
    shift
    [ -n "${HEAD_IP:-}" ] || fail "ray-worker: HEAD_IP is not set: give the address of the ray-head machine, for example --env HEAD_IP=192.168.100.10"
    [ -x "$ray" ] || fail "ray-worker: this image is the CPU build and has no Ray: use the aarch64 image"
    exec "$ray" start --address="$HEAD_IP:${RAY_PORT:-6379}" --block --disable-usage-stats "$@"
    ;;
  bash)
    shift
    exec bash "$@"
    ;;
  health)
    exec dgx-vllm health "${ready[@]}"
    ;;
  doctor | plan | profiles)
    exec dgx-vllm "$@"
    ;;
  *)
    fail "there is no mode \"$mode\": serve (the default), ray-head, ray-worker, bash, doctor, plan"
    ;;
esac
