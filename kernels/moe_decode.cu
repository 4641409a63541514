// moe_decode and moe_decode_24: see README.md for their arguments.
#include <common/arguments.h>
#include <moe_decode_launch.h>

namespace dgx {
namespace {

void check_count(const TensorView& w13) {
  DGX_REFUSE_UNLESS(w13.size(0) >= 1 && w13.size(0) <= std::numeric_limits<int32_t>::max(), ValueError)
      << "w13 must hold 1 to 2^31 - 1 experts, not " << w13.size(0);
}

// The global scales of `count` experts.
void set_globals(moe::Experts& e, const std::string& prefix, const TensorView& global13, const TensorView& global2,
                 int64_t count, DLDevice device) {
  const auto name = [&](const char* what) { return prefix + what; };
  const int64_t globals = global13.ndim() == 2 ? global13.size(1) : 1;
  DGX_REFUSE_UNLESS(globals == 1 || globals == 2, ValueError)
      << prefix << "w13_global must have shape [experts] or [experts, 1 or 2] (gate, up), not " << list(global13.shape());
  if (global13.ndim() == 2) check(name("w13_global").c_str(), global13, {kFloat32}, {count, globals}, device, 4);
  else check(name("w13_global").c_str(), global13, {kFloat32}, {count}, device, 4);
  check(name("w2_global").c_str(), global2, {kFloat32}, {count}, device, 4);
  e.global13 = static_cast<const float*>(global13.data_ptr());
  e.global2 = static_cast<const float*>(global2.data_ptr());
  e.globals13 = static_cast<int>(globals);
}

// Weights of `count` experts, checked against the hidden size; the intermediate size is what w2 says.
moe::Experts experts(const std::string& prefix, const TensorView& w13, const TensorView& scale13, const TensorView& global13,
                     const TensorView& w2, const TensorView& scale2, const TensorView& global2, int64_t count, int64_t hidden,
                     bool swizzled, bool up_first, DLDevice device) {
  const auto name = [&](const char* what) { return prefix + what; };
  DGX_REFUSE_UNLESS(w2.ndim() == 3, ValueError)
      << prefix << "w2 must have shape [experts, hidden, intermediate / 2], not " << list(w2.shape());
  const int64_t intermediate = w2.size(2) * 2;
  check_multiple(name("intermediate size").c_str(), intermediate, nvfp4::kHalf);
  check_matrix(name("w13").c_str(), 2 * intermediate, hidden / 2);
  check(name("w13").c_str(), w13, {kUInt8, kE2M1x2}, {count, 2 * intermediate, hidden / 2}, device, 16);
  check(name("w2").c_str(), w2, {kUInt8, kE2M1x2}, {count, hidden, intermediate / 2}, device, 16);
  const auto padded = [&](int64_t rows) { return swizzled ? round_up(rows, 128) : rows; };
  check(name("w13_scale").c_str(), scale13, {kE4M3, kUInt8}, {count, padded(2 * intermediate), hidden / 16}, device, 16);
  check(name("w2_scale").c_str(), scale2, {kE4M3, kUInt8}, {count, padded(hidden), intermediate / 16}, device, 16);
  moe::Experts e{};
  set_globals(e, prefix, global13, global2, count, device);
  e.weight13 = static_cast<const uint8_t*>(w13.data_ptr());
  e.scale13 = static_cast<const uint8_t*>(scale13.data_ptr());
  e.weight2 = static_cast<const uint8_t*>(w2.data_ptr());
  e.scale2 = static_cast<const uint8_t*>(scale2.data_ptr());
  e.intermediate = static_cast<int>(intermediate);
  e.layout = swizzled ? ScaleLayout::kSwizzled : ScaleLayout::kLinear;
  e.up_first = up_first;
  return e;
}

// The same in tiles of 2:4.
moe::Experts sparse_experts(const std::string& prefix, const TensorView& w13, const TensorView& global13, const TensorView& w2,
                            const TensorView& global2, int64_t count, int64_t hidden, DLDevice device) {
  using sparse24::kTileBytes;
  using sparse24::kTileColumns;
  using sparse24::kTileRows;
  const auto name = [&](const char* what) { return prefix + what; };
  DGX_REFUSE_UNLESS(w2.ndim() == 4, ValueError)
      << prefix << "w2 must have shape [experts, hidden / 16, intermediate / 256, 1792], not " << list(w2.shape());
  const int64_t intermediate = w2.size(2) * kTileColumns;
  check_multiple(name("intermediate size").c_str(), intermediate, kTileColumns);
  check_matrix(name("w13").c_str(), 2 * intermediate / kTileRows, hidden / kTileColumns * kTileBytes);
  check(name("w13").c_str(), w13, {kUInt8}, {count, 2 * intermediate / kTileRows, hidden / kTileColumns, kTileBytes}, device,
        16);
  check(name("w2").c_str(), w2, {kUInt8}, {count, hidden / kTileRows, intermediate / kTileColumns, kTileBytes}, device, 16);
  moe::Experts e{};
  set_globals(e, prefix, global13, global2, count, device);
  e.weight13 = static_cast<const uint8_t*>(w13.data_ptr());
  e.weight2 = static_cast<const uint8_t*>(w2.data_ptr());
  e.intermediate = static_cast<int>(intermediate);
  e.sparse = true;
  return e;
}

Gate gate_of(const std::string& name) {
  if (name == "silu") return Gate::kSilu;
  if (name == "gelu_tanh") return Gate::kGeluTanh;
  DGX_REFUSE_UNLESS(name == "gelu", ValueError) << "activation must be silu, gelu or gelu_tanh, not " << name;
  return Gate::kGeluErf;
}

int64_t moe_decode_workspace(int64_t tokens, int64_t top_k, int64_t intermediate, int64_t shared_intermediate) {
  return tokens * (top_k * intermediate + shared_intermediate);
}

// A layer's input and output; `multiple` is what its hidden size must be one of.
moe::Layer layer(const TensorView& out, const TensorView& x, int multiple) {
  check_rows("x", x, {kBFloat16}, "[tokens, hidden]");
  const DLDevice device = x.device();
  const int64_t tokens = x.size(0), hidden = x.size(1);
  DGX_REFUSE_UNLESS(tokens >= 1 && tokens <= moe::kMaxTokens, ValueError)
      << "x must have 1 to " << moe::kMaxTokens << " rows, not " << tokens;
  check_multiple("hidden size", hidden, multiple);
  DGX_REFUSE_UNLESS(hidden <= moe::kMaxHidden, ValueError)
      << "hidden size must be at most " << moe::kMaxHidden << ", not " << hidden;
  check("out", out, {kBFloat16}, {tokens, hidden}, device, 2);
  moe::Layer p{};
  p.x = static_cast<const bf16_bits*>(x.data_ptr());
  p.out = static_cast<bf16_bits*>(out.data_ptr());
  p.x_stride = row_stride(x);
  p.tokens = static_cast<int>(tokens);
  p.hidden = static_cast<int>(hidden);
  return p;
}

// What the router says, into a layer whose experts are set.
void set_routing(moe::Layer& p, int64_t experts, const TensorView& topk_ids, const TensorView& topk_weights,
                 const Optional<TensorView>& expert_map, bool weight_on_input, DLDevice device) {
  DGX_REFUSE_UNLESS(topk_ids.ndim() == 2, ValueError)
      << "topk_ids must have shape [tokens, top_k], not " << list(topk_ids.shape());
  const int64_t top_k = topk_ids.size(1);
  DGX_REFUSE_UNLESS(top_k >= 1 && top_k <= moe::kMaxSlots / moe::kMaxTokens, ValueError)
      << "top_k must be 1 to " << moe::kMaxSlots / moe::kMaxTokens << ", not " << top_k;
  check("topk_ids", topk_ids, {kInt32}, {p.tokens, top_k}, device, 4);
  check("topk_weights", topk_weights, {kFloat32}, {p.tokens, top_k}, device, 4);
  if (expert_map.has_value()) check("expert_map", expert_map.value(), {kInt32}, {kAny}, device, 4);
  p.ids = static_cast<const int32_t*>(topk_ids.data_ptr());
  p.router_weights = static_cast<const float*>(topk_weights.data_ptr());
  p.expert_map = expert_map.has_value() ? static_cast<const int32_t*>(expert_map.value().data_ptr()) : nullptr;
  p.top_k = static_cast<int>(top_k);
  p.experts = static_cast<int>(experts);
  p.map_size = static_cast<int>(expert_map.has_value() ? expert_map.value().numel() : experts);
  p.weight_on_input = weight_on_input;
}

void set_shared_gate(moe::Layer& p, const Optional<TensorView>& shared_gate, DLDevice device) {
  if (!shared_gate.has_value()) return;
  DGX_REFUSE_UNLESS(p.shared.weight13 != nullptr, ValueError) << "shared_gate must come with the shared expert's tensors";
  check("shared_gate", shared_gate.value(), {kBFloat16}, {p.hidden}, device, 16);
  p.shared_gate = static_cast<const bf16_bits*>(shared_gate.value().data_ptr());
}

void set_workspace(moe::Layer& p, const TensorView& workspace, DLDevice device) {
  const int64_t needed = moe_decode_workspace(p.tokens, p.top_k, p.routed.intermediate, p.shared.intermediate);
  check_type("workspace", workspace, {kBFloat16});
  check_storage("workspace", workspace, device, 16);
  DGX_REFUSE_UNLESS(workspace.numel() >= needed, ValueError)
      << "workspace must hold " << needed << " values (moe_decode_workspace), not " << workspace.numel();
  p.hidden_states = static_cast<bf16_bits*>(workspace.data_ptr());
}

void moe_decode(TensorView out, TensorView x, TensorView w13, TensorView w13_scale, TensorView w13_global, TensorView w2,
                TensorView w2_scale, TensorView w2_global, TensorView topk_ids, TensorView topk_weights,
                Optional<TensorView> expert_map, Optional<TensorView> shared_w13, Optional<TensorView> shared_w13_scale,
                Optional<TensorView> shared_w13_global, Optional<TensorView> shared_w2,
                Optional<TensorView> shared_w2_scale, Optional<TensorView> shared_w2_global,
                Optional<TensorView> shared_gate, TensorView workspace, tvm::ffi::String activation, bool swizzled,
                bool up_first, bool weight_on_input, bool overlap) {
  moe::Layer p = layer(out, x, nvfp4::kHalf);
  const DLDevice device = x.device();
  DGX_REFUSE_UNLESS(w13.ndim() == 3, ValueError)
      << "w13 must have shape [experts, 2 * intermediate, hidden / 2], not " << list(w13.shape());
  check_count(w13);
  p.routed = experts("", w13, w13_scale, w13_global, w2, w2_scale, w2_global, w13.size(0), p.hidden, swizzled, up_first,
                     device);
  set_routing(p, w13.size(0), topk_ids, topk_weights, expert_map, weight_on_input, device);
  const bool shared = shared_w13.has_value();
  DGX_REFUSE_UNLESS(shared == shared_w13_scale.has_value() && shared == shared_w13_global.has_value() &&
                        shared == shared_w2.has_value() && shared == shared_w2_scale.has_value() &&
                        shared == shared_w2_global.has_value(),
                    ValueError)
      << "the shared expert's six tensors must be given together or not at all";
  if (shared)
    p.shared = experts("shared_", shared_w13.value(), shared_w13_scale.value(), shared_w13_global.value(), shared_w2.value(),
                       shared_w2_scale.value(), shared_w2_global.value(), 1, p.hidden, swizzled, up_first, device);
  set_shared_gate(p, shared_gate, device);
  set_workspace(p, workspace, device);
  p.gate = gate_of(activation);
  launch_on(device, "moe_decode", [&](cudaStream_t stream) { return moe::run(p, stream, overlap); });
}

void moe_decode_24(TensorView out, TensorView x, TensorView w13, TensorView w13_global, TensorView w2, TensorView w2_global,
                   TensorView topk_ids, TensorView topk_weights, Optional<TensorView> expert_map,
                   Optional<TensorView> shared_w13, Optional<TensorView> shared_w13_global, Optional<TensorView> shared_w2,
                   Optional<TensorView> shared_w2_global, Optional<TensorView> shared_gate, TensorView workspace,
                   tvm::ffi::String activation, bool weight_on_input, bool overlap) {
  moe::Layer p = layer(out, x, sparse24::kTileColumns);
  const DLDevice device = x.device();
  DGX_REFUSE_UNLESS(w13.ndim() == 4, ValueError)
      << "w13 must have shape [experts, 2 * intermediate / 16, hidden / 256, 1792], not " << list(w13.shape());
  check_count(w13);
  p.routed = sparse_experts("", w13, w13_global, w2, w2_global, w13.size(0), p.hidden, device);
  set_routing(p, w13.size(0), topk_ids, topk_weights, expert_map, weight_on_input, device);
  const bool shared = shared_w13.has_value();
  DGX_REFUSE_UNLESS(shared == shared_w13_global.has_value() && shared == shared_w2.has_value() &&
                        shared == shared_w2_global.has_value(),
                    ValueError)
      << "the shared expert's four tensors must be given together or not at all";
  if (shared)
    p.shared = sparse_experts("shared_", shared_w13.value(), shared_w13_global.value(), shared_w2.value(),
                              shared_w2_global.value(), 1, p.hidden, device);
  set_shared_gate(p, shared_gate, device);
  set_workspace(p, workspace, device);
  p.gate = gate_of(activation);
  launch_on(device, "moe_decode_24", [&](cudaStream_t stream) { return moe::run(p, stream, overlap); });
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(moe_decode, moe_decode);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(moe_decode_24, moe_decode_24);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(moe_decode_workspace, moe_decode_workspace);

}  // namespace dgx
