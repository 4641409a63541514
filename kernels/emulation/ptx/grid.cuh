// ptx/grid.cuh on a CPU: grids run one after the other.
#pragma once

namespace ptx {

inline void griddepcontrol_wait() {}
inline void griddepcontrol_launch_dependents() {}

}  // namespace ptx
