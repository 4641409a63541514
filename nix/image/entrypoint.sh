# The image's modes; arguments go on to what a mode starts.
set -euo pipefail

fail() {
  echo "error: $1" >&2
  exit 2
}

ray=@environment@/bin/ray
# The address of this machine that the others reach, for example that of its ConnectX-7 port; else Ray takes the default
# route's.
node=()
if [ -n "${NODE_IP:-}" ]; then
  node=(--node-ip-address "$NODE_IP")
  export VLLM_HOST_IP=${VLLM_HOST_IP:-$NODE_IP}
fi
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
    dgx-vllm exec "$ray" start --head "${node[@]}" --port="${RAY_PORT:-6379}" --disable-usage-stats
    exec dgx-vllm serve "${ready[@]}" --distributed-executor-backend ray --tensor-parallel-size "${TENSOR_PARALLEL_SIZE:-2}" "$@"
    ;;
  ray-worker)
    shift
    [ -n "${HEAD_IP:-}" ] || fail "ray-worker: HEAD_IP is not set: give the address of the ray-head machine, for example --env HEAD_IP=192.168.100.10"
    [ -x "$ray" ] || fail "ray-worker: this image is the CPU build and has no Ray: use the aarch64 image"
    exec dgx-vllm exec "$ray" start --address="$HEAD_IP:${RAY_PORT:-6379}" "${node[@]}" --block --disable-usage-stats "$@"
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
    fail "there is no mode \"$mode\": serve (the default), ray-head, ray-worker, bash, doctor, plan, profiles, health"
    ;;
esac
