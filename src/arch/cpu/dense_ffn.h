// The gated feed-forward of a dense layer: down(silu(gate(x)) · up(x)), added to the residual.
#pragma once

#include "arch/cpu/step_member.h"

namespace hp {

/// Reads and updates state.x. Ends with a barrier.
void dense_ffn(const StepMember& m, const FloatRow& norm, const FfnWeights& w);

}  // namespace hp
